"""Draws figures with matplotlib as SVG for a page.

Why matplotlib: a report must open from a mail or a disk without a network, years later, on a
phone, and print. Its SVG is static, some 10 kB a figure, and needs no script. Plotly, Bokeh and
ECharts bring hover and zoom, and 1 to 4.5 MB of JavaScript into every file; Vega-Altair needs a
converter of its own to be offline. What hover would say is in the tables of the page.

The page owns the colours: figures are drawn in placeholders that `inline` turns into variables of
its style sheet, so the same SVG is readable on a light and on a dark ground.
"""

import io
import re
from typing import Any

from ..core.errors import RunError

INK, GRID = "#010101", "#020202"
"""Placeholders of text with axes, and of grid lines."""
N_SERIES = 8
"""Colours that can be told apart; further lines differ in their dashes."""
LIGHT = {
    "ground": "#ffffff",
    "ink": "#1c2024",
    "soft": "#5b6470",
    "grid": "#d5dae0",
    "panel": "#f4f6f8",
    "series-0": "#0067a8",
    "series-1": "#c04d00",
    "series-2": "#007a58",
    "series-3": "#a8407e",
    "series-4": "#8a6100",
    "series-5": "#5a54c4",
    "series-6": "#b3261e",
    "series-7": "#4d5966",
}
DARK = {
    "ground": "#14171a",
    "ink": "#e6e9ec",
    "soft": "#9aa4af",
    "grid": "#3a424b",
    "panel": "#1d2226",
    "series-0": "#5cb3ec",
    "series-1": "#ff9a5c",
    "series-2": "#45c9a0",
    "series-3": "#e991c4",
    "series-4": "#e0b64c",
    "series-5": "#a7a2ff",
    "series-6": "#ff8a80",
    "series-7": "#aab6c2",
}
"""Colours on a light and on a dark ground, by the name of their CSS variable."""
DASHES = ("-", "--", ":", "-.")
WIDTH = 4.4
"""Inches of a figure; at 72 units an inch its letters keep a readable size on a phone."""


def palette() -> str:
    """CSS variables of the colours, which follow the reader's light or dark ground."""
    light, dark = (
        " ".join(f"--{name}: {colour};" for name, colour in colours.items())
        for colours in (LIGHT, DARK)
    )
    return (
        f":root {{ color-scheme: light dark; {light} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"
    )


def standalone(svg: str) -> str:
    """A whole SVG file whose placeholder colours follow the reader's light or dark ground."""
    style = f"<style>{palette()}</style>"
    return _coloured(re.sub(r"(<svg[^>]*>)", lambda m: m[1] + style, svg, count=1))


def series(number: int) -> tuple[str, str]:
    """Colour and dashes of line `number` of a page; the page's style sheet replaces the colour."""
    return f"#0300{number % N_SERIES:02x}", DASHES[number // N_SERIES % len(DASHES)]


def new_figure(width: float = WIDTH, height: float = 2.6) -> Any:
    """Make an empty figure; sizes are in inches.

    Raises:
        RunError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise RunError(
            "Plots need matplotlib, which is not installed: pip install matplotlib."
        ) from error
    return Figure(figsize=(width, height))


def new_axes(figure: Any, *, legend: bool = False) -> Any:
    """Add axes that fill the figure, with room above for a legend."""
    axes = figure.add_axes((0.13, 0.18, 0.84, 0.68 if legend else 0.78))
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(color=GRID, labelsize=8)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(GRID)
    return axes


def inline(figure: Any, name: str, label: str) -> str:
    """Render the figure as an `<svg>` element for a page.

    Args:
        figure: what `new_figure` gave.
        name: unique in the page; ids of the SVG begin with it.
        label: what a reader who can't see it is told.
    """
    from matplotlib import rc_context

    out = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    view = re.search(r'viewBox="[^"]*"', svg)
    assert view is not None
    head = f'<svg role="img" aria-label="{label}" {view[0]}>'
    svg = re.sub(r"<svg[^>]*>", head, svg, count=1)
    svg = re.sub(r"font-family: [^;\"]*;? ?", "", svg)
    svg = re.sub(r"(font: [\d.]+px) [^;\"]*", r"\1 sans-serif", svg)
    svg = svg.replace("xlink:href", "href")
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    return _coloured(svg).strip()


def _coloured(svg: str) -> str:
    """Turn placeholder colours into the variables of `palette`."""
    svg = svg.replace(INK, "var(--ink)").replace(GRID, "var(--grid)")
    return re.sub(r"#0300(0\d)", lambda m: f"var(--series-{int(m[1])})", svg)
