"""`mlxt runs`, `mlxt runs rm` and `mlxt runs prune`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from .completion import run_names
from .options import AsJson, Runs
from .terminal import print_table
from .usage import Verbs

app = typer.Typer(
    cls=Verbs,
    help="List runs, delete them, or delete their older checkpoints.",
    invoke_without_command=True,
)
Names = Annotated[
    list[str],
    typer.Argument(
        help="Names of runs.", metavar="RUN", show_default=False, autocompletion=run_names
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]


@app.callback()
def show(context: typer.Context, runs: Runs = Path("runs"), as_json: AsJson = False) -> None:
    """List runs: recipe, steps, last validation loss, size on disk; the newest last."""
    if context.invoked_subcommand is not None:
        return
    from ..verbs.runs import usage

    usages = usage(runs)
    if as_json:
        rows = [asdict(run) | {"changed": run.changed.isoformat()} for run in usages]
        print(json.dumps(rows, indent=2))
        return
    if not usages:
        print(f"No runs in {runs}/. Train one: mlxt train mistral_tiny")
        return
    print_table(
        ("run", "recipe", "steps", "val loss", "checkpoints", "MB", "changed"),
        [
            (
                run.name,
                run.recipe or "",
                f"{run.step:,} of {run.steps:,}" if run.steps is not None else f"{run.step:,}",
                "" if run.val_loss is None else f"{run.val_loss:.4f}",
                str(run.checkpoints),
                f"{run.bytes / 1e6:,.1f}",
                "training now" if run.training else f"{run.changed:%Y-%m-%d %H:%M}",
            )
            for run in usages
        ],
        right=(3, 4, 5),
    )
    total = sum(run.bytes for run in usages)
    number = "1 run" if len(usages) == 1 else f"{len(usages)} runs"
    print(f"\n{number}, {total / 1e6:,.1f} MB. Free space: mlxt runs prune")


@app.command("rm")
def remove(names: Names, yes: Yes = False, runs: Runs = Path("runs")) -> None:
    """Delete runs with all their checkpoints."""
    from ..verbs.runs import named
    from ..verbs.runs import remove as run

    folders = [str(folder.path) for folder in named(names, runs)]
    if not yes:
        typer.confirm(f"Delete {', '.join(folders)} with all checkpoints?", abort=True)
    print(f"Freed {run(names, runs) / 1e6:,.1f} MB.")


@app.command("prune")
def prune(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="Names of runs.", metavar="RUN", show_default="all runs", autocompletion=run_names
        ),
    ] = None,
    keep: Annotated[
        int, typer.Option(help="Newest checkpoints to keep, besides the best.", min=1, metavar="N")
    ] = 1,
    yes: Yes = False,
    runs: Runs = Path("runs"),
) -> None:
    """Delete checkpoints of runs, except their newest and their best."""
    from ..verbs.runs import prune as run

    if not yes:
        which = ", ".join(names) if names else f"all runs in {runs}/"
        typer.confirm(f"Delete older checkpoints of {which}?", abort=True)
    print(f"Freed {run(names or [], keep, runs) / 1e6:,.1f} MB.")
