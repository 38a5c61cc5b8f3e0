"""`mlxt fuse`."""

from pathlib import Path
from typing import Annotated

import typer

from ..core.paths import command_line
from .options import Run, Runs


def fuse(
    run: Run = None,
    name: Annotated[
        str | None,
        typer.Option(
            help="The new run's name.", metavar="NAME", show_default="the run's, with -fused"
        ),
    ] = None,
    anyway: Annotated[
        bool,
        typer.Option("--anyway", help="Write it even if it differs from the live model."),
    ] = False,
    runs: Runs = Path("runs"),
) -> None:
    """Merge the adapters of a run into its base, as a new run of a plain model.

    The merged model is compared with the live one before it is written: KL divergence, changed
    tokens, perplexity.
    """
    from ..verbs.fuse import fuse as merge_run

    folder, fidelity = merge_run(run, name, anyway=anyway, root=runs)
    print(fidelity.line())
    command = command_line("export", folder.path)
    print(f"{folder.path}: a plain model. Continue with: {command}")
