"""The `mlxt` command. One thin file per verb; each loads what it runs when it is run."""

import sys

import typer

from ..core.errors import MlxtError
from . import data, doctor, evaluate, generate, ladder, show, train

app = typer.Typer(
    name="mlxt",
    help="Train transformers on Apple silicon: recipes, the history of the field, one trainer.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)
app.command("train")(train.train)
app.command("generate")(generate.generate)
app.command("eval")(evaluate.evaluate)
app.command("show")(show.show)
app.command("ladder")(ladder.ladder)
app.add_typer(data.app, name="data")
app.command("doctor")(doctor.doctor)


def main() -> None:
    """Run the command; a user's error is its sentence and exit code 1, never a traceback."""
    try:
        app()
    except MlxtError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
