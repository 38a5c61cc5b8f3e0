"""Plots runs into SVG files. Drawn by matplotlib."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from .figure import GRID, INK, LIGHT, N_SERIES, new_figure, series, standalone

ROOM = 3
"""Letters of a token that fit above its column of an alignment; longer ones are turned."""


def validation_curves(
    curves: Mapping[str, Sequence[tuple[int, float]]], path: Path, metric: str = "bits/byte"
) -> Path:
    """Plot a validation metric against training tokens, one line per run.

    Args:
        curves: by run, its (tokens, value) in order.
        path: the file to write; its suffix chooses the format.
        metric: name of the metric, for the axis.

    Raises:
        RunError: matplotlib is not installed.
    """
    with _named_lines(path, "training tokens (millions)", f"validation {metric}") as axes:
        for name, points in curves.items():
            tokens, values = zip(*points, strict=True)
            axes.plot([t / 1e6 for t in tokens], values, marker="o", markersize=3, label=name)
    return path


COLOURS, STYLES = 8, ("-", "--", ":", "-.")
"""Lines that differ in colour before the next style, and the styles."""
MOST_INSIDE = 8
"""Names that fit into a figure; more are listed beside it."""


def measure_curves(
    curves: Mapping[str, Mapping[int, float]] | Mapping[str, Mapping[float, float]],
    path: Path,
    across: str,
    up: str,
    *,
    log_x: bool = False,
    log_y: bool = False,
) -> Path:
    """Plot a measure against an amount, one line per name.

    Args:
        curves: by name, the measure of each amount.
        path: the file to write; its suffix chooses the format.
        across, up: names of the axes.
        log_x, log_y: whether they are logarithmic; with both a slope is an exponent.

    Raises:
        RunError: matplotlib is not installed.
    """
    with _named_lines(path, across, up) as axes:
        if log_x:
            axes.set_xscale("log", base=2)
        if log_y:
            axes.set_yscale("log")
        for name, points in curves.items():
            style = STYLES[len(axes.lines) // COLOURS % len(STYLES)]
            x, y = list(points), list(points.values())
            axes.plot(x, y, style, marker="o", markersize=3, label=name)
    return path


def interval_curves(
    curves: Mapping[str, Sequence[tuple[str, float, float]]], path: Path, across: str, up: str
) -> Path:
    """Plot a measure with intervals over the values of a key, one line per name.

    Args:
        curves: by name, (value of the key, measure, half width of its interval).
        path: the file to write; its suffix chooses the format.
        across, up: names of the axes; values that are all positive numbers get a logarithmic one.

    Raises:
        RunError: matplotlib is not installed.
    """
    texts = [text for points in curves.values() for text, _, _ in points]
    numbers = _numbers(texts)
    with _named_lines(path, across, up) as axes:
        if len(set(numbers.values())) > 1 and min(numbers.values()) > 0:  # one has no scale
            axes.set_xscale("log")
        for name, points in curves.items():
            placed = [(numbers.get(text, text), value, error) for text, value, error in points]
            x, y, error = zip(*sorted(placed, key=lambda p: p[0]) if numbers else placed,
                              strict=True)  # fmt: skip
            axes.errorbar(x, y, yerr=error, marker="o", markersize=3, capsize=3, label=name)
    return path


def _numbers(texts: Sequence[str]) -> dict[str, float]:
    """The numbers that texts spell; none unless all of them do."""
    try:
        return {text: float(text) for text in texts}
    except ValueError:
        return {}


Bar = tuple[float, float, float]
"""A measure, and the interval around it: value, low, high."""


def group_curves(
    curves: Mapping[str, Sequence[Bar]], groups: Sequence[str], path: Path, what: str
) -> Path:
    """Plot a metric and its interval per group of source lengths, one line per model.

    Args:
        curves: by model, what was measured in each group.
        groups: the names of the groups.
        path: the file to write; its suffix chooses the format.
        what: the measure's name, for the axis.

    Raises:
        RunError: matplotlib is not installed.
    """
    with _named_lines(path, "words of the source", what) as axes:
        for number, (name, bars) in enumerate(curves.items()):
            # Side by side, so that no interval hides another.
            aside = 0.08 * (number - (len(curves) - 1) / 2)
            values, low, high = zip(*bars, strict=True)
            reach = [np.subtract(values, low), np.subtract(high, values)]
            places = np.arange(len(groups)) + aside
            axes.errorbar(places, values, reach, marker="o", markersize=3, capsize=2, label=name)
        axes.set_xticks(range(len(groups)), groups)
    return path


@contextmanager
def _named_lines(path: Path, across: str, up: str) -> Iterator[Any]:
    """Context manager that opens axes, and writes the figure with a legend at its end."""
    figure = new_figure(7.5, 4.2)
    with _inked(path):
        figure.set_layout_engine("constrained")
        axes = figure.add_subplot()
        yield axes
        axes.set_xlabel(across)
        axes.set_ylabel(up)
        axes.grid(linewidth=0.6)
        if len(axes.lines) <= MOST_INSIDE:
            axes.legend(frameon=False)
        else:
            axes.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
        _write(figure, path)


@contextmanager
def _inked(path: Path) -> Iterator[None]:
    """Draw in the colours of reports: an SVG's follow a light or dark ground, others are light."""
    from cycler import cycler
    from matplotlib import rc_context

    vector = path.suffix == ".svg"
    ink, grid = (INK, GRID) if vector else (LIGHT["ink"], LIGHT["grid"])
    colours = [series(i)[0] if vector else LIGHT[f"series-{i}"] for i in range(N_SERIES)]
    parts = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    options: dict[str, Any] = dict.fromkeys(parts, ink)
    options |= {"grid.color": grid, "axes.prop_cycle": cycler(color=colours)}
    with rc_context(options | {"svg.hashsalt": "mlxt", "axes.facecolor": "none"}):
        yield


def _write(figure: Any, path: Path) -> None:
    """Write the figure, the same bytes each time; its format is the suffix of the path."""
    figure.savefig(path, transparent=path.suffix == ".svg", metadata={"Date": None})
    if path.suffix == ".svg":
        path.write_text(standalone(path.read_text(encoding="utf-8")), encoding="utf-8")


def alignment(
    weights: Sequence[Sequence[float]], source: Sequence[str], target: Sequence[str], path: Path
) -> Path:
    """Plot attention weights of target tokens (rows) over source tokens (columns); black is 1.

    Bahdanau et al. 2015, figure 3.

    Args:
        weights: `[T][S]`, as `alignment` of a recurrent model gives them for one pair.
        source, target: the tokens as text.
        path: the file to write; its suffix chooses the format.

    Raises:
        RunError: matplotlib is not installed.
    """
    figure = new_figure(1.0 + 0.32 * len(source), 0.8 + 0.32 * len(target))
    with _inked(path):
        _draw_alignment(figure, weights, source, target)
        _write(figure, path)
    return path


def _draw_alignment(
    figure: Any, weights: Sequence[Sequence[float]], source: Sequence[str], target: Sequence[str]
) -> None:
    figure.set_layout_engine("constrained")
    axes = figure.add_subplot()
    axes.imshow(weights, cmap="Greys", vmin=0, vmax=1, aspect="equal")
    if max(map(len, source)) > ROOM:
        axes.set_xticks(range(len(source)), source, rotation=60, ha="left", rotation_mode="anchor")
    else:
        axes.set_xticks(range(len(source)), source)
    axes.set_yticks(range(len(target)), target)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
