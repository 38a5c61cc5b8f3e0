"""Draws the charts of a report: line plots, bars and heat maps, as SVG."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .figure import GRID, INK, WIDTH, inline, new_axes, new_figure, series

LETTER = 0.0145
"""Width of a letter of a label, as a share of the figure."""


@dataclass(frozen=True)
class Line:
    """One line of a plot.

    Attributes:
        label: its name.
        points: its points (x, y), in order.
        colour: the number of its colour on the page.
        band: the range (low, high) around each point; empty draws none.
    """

    label: str
    points: Sequence[tuple[float, float]]
    colour: int
    band: Sequence[tuple[float, float]] = ()


def lines(
    name: str,
    label: str,
    curves: Sequence[Line],
    *,
    x_label: str,
    legend: bool = False,
    from_zero: bool = False,
    log_x: bool = False,
) -> str:
    """Plot lines on one pair of axes, as SVG.

    Args:
        name: unique in the page.
        label: description for screen readers.
        curves: the lines; lines without points are skipped.
        x_label: label of the horizontal axis.
        legend: whether the plot has a legend; otherwise the page has one.
        from_zero: whether the vertical axis begins at 0.
        log_x: whether the horizontal axis is logarithmic, to base 2.

    Raises:
        RunError: matplotlib is not installed.
    """
    figure = new_figure()
    axes = new_axes(figure, legend=legend)
    for line in curves:
        if not line.points:
            continue
        colour, dashes = series(line.colour)
        x, y = zip(*line.points, strict=True)
        few = "o" if len(line.points) <= 24 else None
        axes.plot(x, y, dashes, color=colour, lw=1.4, marker=few, ms=2.6, label=line.label)
        if line.band:
            low, high = zip(*line.band, strict=True)
            axes.fill_between(x, low, high, color=colour, alpha=0.2, lw=0)
    if from_zero:
        highest = max((y for line in curves for _, y in line.points), default=0.0)
        axes.set_ylim(0, 1.08 * highest or 1.0)
    if log_x:
        axes.set_xscale("log", base=2)
    _numbers(axes)
    axes.set_xlabel(x_label, fontsize=8, color=INK)
    if legend:
        axes.legend(
            loc="lower left", bbox_to_anchor=(0, 1), ncols=4, fontsize=8, frameon=False,
            borderpad=0, handlelength=1.4, columnspacing=1.0,
        )  # fmt: skip
    return inline(figure, name, label)


def _numbers(axes: Any) -> None:
    """Label large ticks with SI prefixes: 40k, 1.2M."""
    from matplotlib.ticker import EngFormatter

    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        if max(abs(low), abs(high)) >= 1000:
            axis.set_major_formatter(EngFormatter(sep=""))
        elif axis is axes.xaxis and axes.get_xscale() == "log":
            axis.set_major_formatter(lambda value, _: f"{value:g}")


def bars(name: str, label: str, parts: Sequence[tuple[str, float]], *, unit: str) -> str:
    """Draw horizontal bars with their values, the first on top.

    Raises:
        RunError: matplotlib is not installed.
    """
    figure = new_figure(height=0.5 + 0.27 * len(parts))
    left = 0.03 + LETTER * max((len(text) for text, _ in parts), default=0)
    axes = figure.add_axes((left, 0.02, 0.86 - left, 0.96))
    values = [value for _, value in parts]
    places = range(len(parts))
    axes.barh(places, values, color=series(0)[0], height=0.62)
    axes.set_yticks(places, [text for text, _ in parts], fontsize=8, color=INK)
    axes.invert_yaxis()
    axes.tick_params(length=0)
    axes.set_xticks([])
    for place, value in zip(places, values, strict=True):
        axes.annotate(
            f"{value:,.2f} {unit}", (max(value, 0), place), (4, 0), textcoords="offset points",
            fontsize=8, va="center",
        )  # fmt: skip
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.axvline(0, color=GRID, lw=0.8)
    return inline(figure, name, label)


def heat_map(
    name: str,
    label: str,
    rows: Sequence[str],
    columns: Sequence[str],
    cells: Sequence[Sequence[float | str | None]],
    *,
    row_label: str,
    column_label: str,
    spec: str = ",.0f",
    best: tuple[int, int] | None = None,
    span: tuple[float, float] = (0.0, 1.0),
) -> str:
    """Draw a heat map with the value written in each cell. None marks a cell that failed; a string
    is written instead of a value.

    `best` is the (row, column) that gets a frame and a star. `span` is the range of the colours:
    the smallest and the largest value of all maps on the page.

    Raises:
        RunError: matplotlib is not installed.
    """
    from matplotlib import colormaps

    inner = 0.4 * len(rows)
    height = inner + 0.5
    width = max(WIDTH, 1.4 + 0.75 * len(columns))
    figure = new_figure(width, height)
    axes = figure.add_axes((0.2, 0.42 / height, 0.78, inner / height))
    low, high = span
    colours = colormaps["viridis"]
    for i, row in enumerate(cells):
        for j, value in enumerate(row):
            if value is None or isinstance(value, str):
                _cell(axes, i, j, "none", value or "fails", INK)
                continue
            share = (value - low) / (high - low) if high > low else 1.0
            star = "★ " if (i, j) == best else ""
            text = "#ffffff" if share < 0.6 else "#000001"
            _cell(axes, i, j, colours(share), star + format(value, spec), text)
    if best is not None:
        axes.add_patch(_frame(best))
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xticks(range(len(columns)), columns, fontsize=8, color=INK)
    axes.set_yticks(range(len(rows)), rows, fontsize=8, color=INK)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_xlabel(column_label, fontsize=8, color=INK)
    axes.set_ylabel(row_label, fontsize=8, color=INK)
    svg = inline(figure, name, label)
    if width == WIDTH:
        return svg
    # A wide one moves in a box of its own, in which letters keep their size.
    return f'<div class="wide"><div style="min-width: {72 * width:.0f}px">{svg}</div></div>'


def _cell(axes: Any, i: int, j: int, colour: Any, text: str, ink: str) -> None:
    from matplotlib.patches import Rectangle

    edge = GRID if colour == "none" else "none"
    axes.add_patch(Rectangle((j - 0.48, i - 0.46), 0.96, 0.92, facecolor=colour, edgecolor=edge))
    axes.text(j, i, text, ha="center", va="center", fontsize=8, color=ink)


def _frame(place: tuple[int, int]) -> Any:
    from matplotlib.patches import Rectangle

    i, j = place
    return Rectangle((j - 0.48, i - 0.46), 0.96, 0.92, fill=False, edgecolor=series(1)[0], lw=2)
