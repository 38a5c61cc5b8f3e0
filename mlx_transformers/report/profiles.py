"""Shows profiles and sweeps: rows for a terminal, and HTML pages in the style of a report."""

from collections.abc import Sequence
from html import escape
from itertools import product
from pathlib import Path

from ..profile.energy import Energy
from ..profile.measure import Profile, Speed
from ..profile.others import BUSY
from ..profile.sweep import Axis, Cell, best, tied
from ..profile.timing import Spread
from . import page
from .charts import Line, bars, heat_map, lines
from .figure import new_figure

BUSY_NOTE = ": this machine was busy, and may be faster than this says"

NO_ROOM = "no room"
"""Text of a cell that was not measured because its plan doesn't fit."""

Rows = list[tuple[str, ...]]

PART_TITLES = ("part of a step", "ms", "quartiles", "share")
BLOCK_TITLES = ("part", "kind", "blocks", "forward ms", "with gradients ms", "share of step")
DECODE_TITLES = (
    "context",
    "batch",
    "prompt tokens/s",
    "tokens/s",
    "quartiles",
    "cache KiB",
    "roofline tokens/s",
    "share",
)


def speed_rows(profile: Profile) -> Rows:
    """Rows of the headline numbers: speed, MFU, memory."""
    speed = profile.speed
    return [
        ("parameters", f"{profile.parameters:,}"),
        ("tokens/s, median", f"{speed.tokens_per_s.median:,.0f}"),
        ("… quartiles", quartiles(speed.tokens_per_s)),
        ("tokens of a step", f"{speed.tokens_per_step:,}"),
        ("peak of arrays", f"{speed.peak_gib:.3f} GiB"),
        ("MFU", mfu_text(speed)),
        (
            "bandwidth",
            f"{speed.bandwidth_use:.1%} of {speed.copy_bytes_per_s / 1e9:,.1f} GB/s at least",
        ),
        ("energy", energy_text(profile.energy)),
        ("compilation", f"{speed.compile_s:.1f} s"),
        ("traces of the step", f"{speed.traces} of {speed.declared_traces} declared"),
        ("device", f"{profile.device}, {profile.dtype}"),
        ("other processes", others_text(speed.others)),
    ]


def others_text(share: float | None) -> str:
    """How busy other processes kept the cores, with a warning where that disturbs."""
    if share is None:
        return "not known here"
    return f"{share:.0%} of the cores' time" + (BUSY_NOTE if share > BUSY else "")


def mfu_text(speed: Speed) -> str:
    """Model FLOPs utilization, or why it is not there."""
    if speed.mfu is None:
        return f"-: {speed.mfu_missing}"
    return f"{speed.mfu:.1%} of {speed.matmul_flop_per_s / 1e9:,.0f} GFLOP/s"


def energy_text(energy: Energy) -> str:
    """Energy per million tokens, or the reason why it was not measured."""
    if energy.joules_per_million_tokens is None or energy.watts is None:
        return f"not measured: {energy.missing}"
    joules = energy.joules_per_million_tokens
    return (
        f"{joules / 1e3:,.2f} kJ per million tokens, {energy.watts:.1f} W of CPU, GPU and neural "
        "engine"
    )


def part_rows(profile: Profile) -> Rows:
    """Rows of the parts of a step."""
    step = profile.speed.step_s
    return [
        (
            part,
            f"{took.median * 1e3:,.2f}",
            f"{took.low * 1e3:,.1f} to {took.high * 1e3:,.1f}",
            f"{took.median / step.median:.1%}",
        )
        for part, took in (*profile.speed.parts_s.items(), ("step", step))
    ]


def block_rows(profile: Profile) -> Rows:
    """Rows of the cost of one block of each kind; the share counts all blocks of the kind."""
    return [
        (
            cost.part if cost.whole else f"· {cost.part.rsplit(' ', 1)[1]}",
            cost.kind,
            str(cost.count),
            f"{cost.forward_s.median * 1e3:,.2f}",
            f"{cost.gradients_s.median * 1e3:,.2f}",
            f"{cost.share:.1%}",
        )
        for cost in profile.blocks
    ]


def decode_rows(profile: Profile) -> Rows:
    """Rows of decoding speed by context length and batch size."""
    return [
        (
            f"{row.context:,}",
            f"{row.batch:,}",
            f"{row.prompt_tokens_per_s.median:,.0f}",
            f"{row.tokens_per_s.median:,.0f}",
            quartiles(row.tokens_per_s),
            f"{row.cache_bytes / 1024:,.0f}",
            f"{row.roofline_tokens_per_s:,.0f}",
            f"{row.roofline_share:.1%}",
        )
        for row in profile.decoding
    ]


def sweep_rows(axes: Sequence[Axis], cells: Sequence[Cell]) -> tuple[tuple[str, ...], Rows]:
    """Titles, and a row of every cell; the one with the most tokens/s has a star."""
    titles = (*(axis.key for axis in axes), "tokens/s", "quartiles", "peak GiB", "MFU", "")
    fastest, equal = best(cells), tied(cells)
    rows: Rows = []
    for number, cell in enumerate(cells):
        values_of_cell = tuple(cell.settings[axis.key] for axis in axes)
        if cell.tokens_per_s is None:
            rows.append((*values_of_cell, "", "", "", "", cell.error or ""))
            continue
        rows.append(
            (
                *values_of_cell,
                f"{cell.tokens_per_s:,.0f}",
                f"{cell.low:,.0f} to {cell.high:,.0f}",
                f"{cell.peak_gib:.3f}",
                "-" if cell.mfu is None else f"{cell.mfu:.1%}",
                _mark(number, fastest, equal, cell),
            )
        )
    return titles, rows


def _mark(number: int, fastest: int | None, equal: set[int], cell: Cell) -> str:
    """A cell's place in the ranking, and why its MFU is missing."""
    place = ""
    if number == fastest:
        place = "★ most tokens/s"
    elif number in equal:
        place = "≈ ★: quartiles overlap"
    missing = "" if cell.mfu_missing is None else f"no MFU: {cell.mfu_missing}"
    return "; ".join(part for part in (place, missing) if part)


def quartiles(spread: Spread) -> str:
    """Format a spread: median and quartiles."""
    return f"{spread.low:,.0f} to {spread.high:,.0f}"


def check_page(path: Path) -> None:
    """Check that a page can be written, before minutes of measuring.

    Raises:
        RunError: as `write_profile`.
    """
    page.check_place(path)
    new_figure()


def write_profile(profile: Profile, command: str, path: Path) -> Path:
    """Write the page of a profile.

    Raises:
        RunError: matplotlib is not installed, or `path` is a file that is not a report.
    """
    out = page.Page(f"Profile of {profile.recipe}")
    out.add("summary", "Speed", _table(("", ""), speed_rows(profile)))
    parts = [(name, took.median * 1e3) for name, took in profile.speed.parts_s.items()]
    out.add(
        "parts",
        "Where a step goes",
        page.figures(
            page.figure(bars("parts", "Milliseconds by part", parts, unit="ms"), "Parts", "ms")
        ),
        _table(PART_TITLES, part_rows(profile)),
    )
    if profile.blocks:
        out.add("blocks", "Blocks", _table(BLOCK_TITLES, block_rows(profile)))
    if profile.decoding:
        table = _table(DECODE_TITLES, decode_rows(profile))
        out.add("decode", "Decoding", _decode_chart(profile), table)
    out.add("command", "Command", page.text(command, wrap=True))
    return out.write(path)


def _decode_chart(profile: Profile) -> str:
    rows = [row for row in profile.decoding if row.batch == 1]
    found = [
        Line("generation", [(r.context, r.tokens_per_s.median) for r in rows], 0),
        Line("prompt", [(r.context, r.prompt_tokens_per_s.median) for r in rows], 1),
        Line("roofline", [(r.context, r.roofline_tokens_per_s) for r in rows], 2),
    ]
    svg = lines(
        "decode",
        "Tokens per second by context",
        found,
        x_label="context, tokens",
        legend=True,
        from_zero=True,
        log_x=True,
    )
    return page.figures(page.figure(svg, "Decoding", "tokens/s"))


def write_sweep(
    recipe: str, axes: Sequence[Axis], cells: Sequence[Cell], command: str, path: Path
) -> Path:
    """Write the page of a sweep: heat maps of speed and memory, and the table.

    Raises:
        RunError: matplotlib is not installed, or `path` is a file that is not a report.
    """
    out = page.Page(f"Sweep of {recipe}")
    out.add("maps", "Speed and memory", sweep_maps(axes, cells))
    out.add("cells", "Cells", sweep_table(axes, cells))
    out.add("command", "Command", page.text(command, wrap=True))
    return out.write(path)


def sweep_maps(axes: Sequence[Axis], cells: Sequence[Cell]) -> str:
    """Draw speed and memory of a sweep as heat maps.

    Raises:
        RunError: matplotlib is not installed.
    """
    maps: list[str] = []
    for field, title, unit, spec in (
        ("tokens_per_s", "Speed", "tokens/s", ",.0f"),
        ("peak_gib", "Peak of arrays", "GiB", ".3f"),
    ):
        maps += _heat_maps(axes, cells, best(cells), field, (title, unit, spec))
    return page.figures(*maps)


def sweep_table(axes: Sequence[Axis], cells: Sequence[Cell]) -> str:
    """Table of all cells of a sweep, the fastest marked."""
    titles, rows = sweep_rows(axes, cells)
    return _table(titles, rows, best(cells))


def _heat_maps(
    axes: Sequence[Axis],
    cells: Sequence[Cell],
    fastest: int | None,
    field: str,
    words: tuple[str, str, str],
) -> list[str]:
    """Draw a map of the last two axes for each combination of the others."""
    title, unit, spec = words
    down = axes[-2] if len(axes) > 1 else Axis("", ("",))
    across = axes[-1]
    width, size = len(across.values), len(down.values) * len(across.values)
    measured = [value for cell in cells if (value := getattr(cell, field)) is not None] or [0.0]
    maps = []
    for number, fixed_values in enumerate(product(*(axis.values for axis in axes[:-2]))):
        first = number * size
        here_cells = cells[first : first + size]
        values = [NO_ROOM if cell.planned else getattr(cell, field) for cell in here_cells]
        grid = [values[at : at + width] for at in range(0, size, width)]
        fastest_place = None
        if fastest is not None and first <= fastest < first + size:
            fastest_place = divmod(fastest - first, width)
        where = ", ".join(f"{a.key}={v}" for a, v in zip(axes[:-2], fixed_values, strict=True))
        svg = heat_map(
            f"{field}-{number}".replace("_", "-"),
            escape(f"{title}, {unit} {where}"),
            down.values,
            across.values,
            grid,
            row_label=down.key,
            column_label=across.key,
            spec=spec,
            best=fastest_place,
            span=(min(measured), max(measured)),
        )
        maps.append(page.figure(svg, title, f"{unit} {where}"))
    return maps


def _table(titles: Sequence[str], rows: Rows, marked: int | None = None) -> str:
    return page.table(
        [escape(t) for t in titles], [[escape(c) for c in row] for row in rows], best=marked
    )
