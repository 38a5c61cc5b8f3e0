"""`mlxt report`."""

from pathlib import Path
from typing import Annotated

import typer

from .completion import run_names
from .options import Runs, user_path


def report(
    run: Annotated[
        list[str] | None,
        typer.Argument(
            help="Names or folders of runs; several are drawn on the same axes.",
            metavar="RUN",
            show_default="the newest run",
            autocompletion=run_names,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            parser=user_path,
            help="The file to write.",
            metavar="FILE",
            show_default="report.html in the run's folder",
        ),
    ] = None,
    sweep: Annotated[
        Path | None,
        typer.Option(
            parser=user_path,
            help="Also show a sweep of the recipe, the output of profile --sweep ... --json.",
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
    runs: Runs = Path("runs"),
) -> None:
    """Write the report of a run, or a comparison of several, as one offline HTML file."""
    from ..report.runs import report as write

    print(f"Written: {write(run or [], out, runs, sweep)}")
