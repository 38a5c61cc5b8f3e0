"""The `mlxt` command. One thin file per verb; each loads what it runs when it is run."""

import os
import sys
import warnings
from collections.abc import Callable
from typing import Annotated, NoReturn, TextIO

import typer

from .. import __version__
from ..core.errors import MlxtError, Notice
from ..verbs.supervise import OUT_OF_MEMORY
from . import (
    bench,
    cache,
    chat,
    compare,
    data,
    doctor,
    embed,
    evaluate,
    exporting,
    finetune,
    fusing,
    generate,
    grow,
    history,
    importing,
    ladder,
    look,
    nearest,
    plan,
    profile,
    prune,
    quantize,
    recipes,
    report,
    runs,
    safety,
    scale,
    schema,
    serve,
    show,
    sweep,
    think,
    train,
    transcribe,
    upcycle,
    verify,
    watch,
)
from .examples import examples
from .failures import INTERRUPTED, no_memory, refused
from .failures import report as show_error
from .usage import Verbs

FIRST_STEPS = """
First steps:

- `mlxt train mistral_tiny --steps 400` trains a small model on Shakespeare, in minutes
- `mlxt generate -p "ROMEO:"` continues a prompt with it
- `mlxt train mistral_tiny --data notes.txt` trains on your own text
- `mlxt recipes` lists all models; `mlxt train --help` the options of a command
"""

app = typer.Typer(
    name="mlxt",
    cls=Verbs,
    help="Train transformers on Apple silicon: a model is a recipe, a recipe is a diff.",
    epilog=FIRST_STEPS,
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode="markdown",  # keeps [train] and the like, which the default takes for markup
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
PANELS: dict[str, dict[str, Callable[..., None] | typer.Typer]] = {
    "Train": {
        "train": train.train,
        "finetune": finetune.finetune,
        "plan": plan.plan,
        "watch": watch.watch,
        "report": report.report,
        "runs": runs.app,
    },
    "Use a model": {
        "generate": generate.generate,
        "chat": chat.chat,
        "serve": serve.serve,
        "embed": embed.embed,
        "nearest": nearest.nearest,
        "transcribe": transcribe.transcribe,
        "eval": evaluate.evaluate,
        "think": think.think,
        "safety": safety.safety,
        "look": look.look,
        "verify": verify.verify,
    },
    "Make another model of one": {
        "import": importing.import_model,
        "export": exporting.export,
        "fuse": fusing.fuse,
        "quantize": quantize.quantize,
        "prune": prune.prune,
        "grow": grow.grow,
        "upcycle": upcycle.upcycle,
    },
    "Compare ideas": {
        "recipes": recipes.recipes,
        "show": show.show,
        "history": history.history,
        "ladder": ladder.ladder,
        "sweep": sweep.sweep,
        "scale": scale.scale,
        "compare": compare.compare,
    },
    "This machine": {
        "profile": profile.profile,
        "bench": bench.bench,
        "doctor": doctor.doctor,
        "data": data.app,
        "cache": cache.app,
        "schema": schema.schema,
    },
}
"""The verbs, under the headings of `mlxt --help`."""

for panel, verbs in PANELS.items():
    for name, verb in verbs.items():
        if isinstance(verb, typer.Typer):
            app.add_typer(verb, name=name, rich_help_panel=panel)
        else:
            app.command(name, rich_help_panel=panel, epilog=examples(name))(verb)


def _version(wanted: bool) -> None:
    if not wanted:
        return
    from importlib.metadata import version
    from platform import machine, python_version, system

    print(
        f"mlxt {__version__} (mlx {version('mlx')}, Python {python_version()}, "
        f"{system()} {machine()})"
    )
    raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print versions and exit."
        ),
    ] = False,
) -> None:
    pass


def _warn(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning without its place in the code, which doesn't help users."""
    prefix = "" if isinstance(message, Notice) else "warning: "
    print(f"{prefix}{message}", file=sys.stderr)


def main() -> None:
    """Run the command; a user's error prints one sentence and exits with 1, without a traceback."""
    warnings.showwarning = _warn
    try:
        try:
            check_environment()
            app(prog_name="mlxt")
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # The reader closed the pipe, as in `mlxt show ... | head`.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            os.dup2(nowhere, stream.fileno())
        raise SystemExit(1) from None
    except MlxtError as error:
        show_error(str(error))
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    except ImportError as error:
        # A compiled module turns an interrupt of its imports into an error of its own.
        if isinstance(error.__cause__, KeyboardInterrupt):
            raise SystemExit(INTERRUPTED) from None
        raise
    except (OSError, MemoryError, RuntimeError) as error:
        sentence = refused(error)
        if sentence is None:
            raise
        show_error(sentence)
        if no_memory(error):
            _leave(OUT_OF_MEMORY)
        raise SystemExit(1) from None


def check_environment() -> None:
    """Refuse values of MLX's environment variables that it reads as 0 and then waits for ever.

    Raises:
        MlxtError: one of them is no whole number above 0.
    """
    for name in ("MLX_BFS_MAX_WIDTH", "MLX_MAX_OPS_PER_BUFFER", "MLX_MAX_MB_PER_BUFFER"):
        text = os.environ.get(name, "1")
        if not (text.isascii() and text.isdigit() and int(text[:9]) > 0):
            raise MlxtError(
                f"${name} is {text!r}, which has to be a whole number from 1. Unset it."
            )


def _leave(code: int) -> NoReturn:
    """Exit at once, skipping exit handlers: mlx-data's hangs when memory is gone."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
