"""`mlxt fuse`."""

from pathlib import Path
from typing import Annotated

import typer

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

    Prints how the merged model differs from the live one: KL divergence and changed argmax.
    """
    from ..verbs.fuse import fuse as merge_run

    folder, fidelity = merge_run(run, name, anyway=anyway, root=runs)
    print(fidelity.sentence)
    print(f"{folder.path}: a plain model. Continue with: mlxt export {folder.path}")
