"""Prints tables that wrap on a terminal and keep one line per row elsewhere."""

from collections.abc import Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Literal

from ..core.terminal import is_terminal

if TYPE_CHECKING:
    from rich.console import Console

GAP = 2
"""Spaces between two columns."""


def console(*, err: bool = False) -> "Console":
    """Open a console that prints text verbatim: no markup, no guessed colours."""
    from rich.console import Console

    return Console(stderr=err, highlight=False, markup=False, emoji=False)


def print_table(
    titles: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Sequence[int] = (),
    styles: Sequence[str] | None = None,
    gaps: Sequence[int] = (),
) -> None:
    """Print rows under their titles.

    Args:
        titles: one per column, of one line or more; all empty for no header.
        rows: cells, row by row.
        right: columns to align to the right.
        styles: style of each row on a terminal.
        gaps: rows to put an empty line before.
    """
    if not is_terminal():
        heads = [" ".join(title.split("\n")) for title in titles]
        lines = aligned([heads, *rows], right, gaps=[i + 1 for i in gaps])
        print("\n".join(lines if any(titles) else lines[1:]))
        return
    from rich.table import Table

    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, show_header=any(titles))
    for i, title in enumerate(titles):
        justify: Literal["right", "left"] = "right" if i in right else "left"
        # Only the widest column may wrap, so that names and numbers stay whole.
        table.add_column(
            title,
            justify=justify,
            header_style="bold",
            overflow="fold",
            no_wrap=i != _widest(rows),
        )
    for i, row in enumerate(rows):
        if i in gaps:
            table.add_row()
        table.add_row(*row, style=styles[i] if styles else None)
    console().print(table)


def aligned(
    rows: Sequence[Sequence[str]], right: Sequence[int] = (), gaps: Sequence[int] = ()
) -> list[str]:
    """Format rows as lines with aligned columns."""
    cut = [[cell.split("\n") for cell in row] for row in rows]
    widths = [
        max(len(line) for cell in column for line in cell) for column in zip(*cut, strict=True)
    ]
    lines: list[str] = []
    for i, row in enumerate(cut):
        lines += [""] if i in gaps else []
        for parts in zip_longest(*row, fillvalue=""):
            cells = [
                part.rjust(width) if n in right else part.ljust(width)
                for n, (part, width) in enumerate(zip(parts, widths, strict=True))
            ]
            lines.append((" " * GAP).join(cells).rstrip())
    return lines


def _widest(rows: Sequence[Sequence[str]]) -> int:
    columns = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return columns.index(max(columns)) if columns else 0
