"""`mlxt history`."""

from pathlib import Path
from typing import Annotated

import typer

from .options import user_path


def history(
    out: Annotated[
        Path,
        typer.Option(parser=user_path, help="The HTML file to write.", metavar="FILE"),
    ] = Path("history.html"),
) -> None:
    """Show the lineage of all recipes as one offline HTML page: years, papers, changes, effects."""
    from ..report.history import write_history

    print(f"Written: {write_history(out)}")
