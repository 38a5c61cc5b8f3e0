"""Plots of runs. Needs matplotlib (extra `plot`)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from .figure import new_figure


def validation_curves(curves: Mapping[str, Sequence[tuple[int, float]]], path: Path) -> Path:
    """Validation bits per byte against tokens trained on, one line per run.

    Args:
        curves: by run, its (tokens, bits per byte) in order.
        path: the file to write; its suffix chooses the format.

    Raises:
        RunError: matplotlib is not installed.
    """
    figure = new_figure(7.5, 4.2)
    figure.set_layout_engine("constrained")
    axes = figure.add_subplot()
    for name, points in curves.items():
        tokens, bits = zip(*points, strict=True)
        axes.plot([t / 1e6 for t in tokens], bits, marker="o", markersize=3, label=name)
    axes.set_xlabel("training tokens (millions)")
    axes.set_ylabel("validation bits per byte")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path)
    return path
