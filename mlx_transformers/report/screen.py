"""Shows a run while it trains: a live panel on a terminal, plain lines elsewhere."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from ..core.terminal import is_terminal
from ..trainer.metrics import metric_texts, training_metrics, validation_metrics
from ..trainer.sinks import Record

LEVELS = "▁▂▃▄▅▆▇█"
CURVE_WIDTH = 24
"""Characters of the loss curve."""
ROW_WIDTH = 62
"""Characters of a row of the panel, beside its name, that fit 80 columns."""


class Screen(Protocol):
    """A sink with a beginning and an end."""

    def __enter__(self) -> "Screen": ...
    def __exit__(self, *error: object) -> None: ...
    def write(self, record: Record) -> None: ...
    def status(self, text: str) -> None: ...


def open_screen(title: str, steps: int, done: int) -> Screen:
    """Open a live panel if standard output is a terminal, else print plain lines."""
    return LiveScreen(title, steps, done) if is_terminal() else PlainScreen(steps)


class PlainScreen:
    """Prints one line per record, like mlx-lm's trainer."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def __enter__(self) -> "PlainScreen":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def write(self, record: Record) -> None:
        print(line(record), flush=True)

    def status(self, text: str) -> None:
        pass  # plain output has no line that could be rewritten


def line(record: Record) -> str:
    """Format a record as a line of numbers."""
    head = f"Iter {record['step']}: "
    if "sample" in record:
        return f"{head}Sample:\n{record['sample']}"
    if "warning" in record:
        return f"{head}Warning: {record['warning']}"
    if "val_loss" in record:
        return head + ", ".join(f"Val {text}" for text in metric_texts(validation_metrics(record)))
    text = head + "".join(f"Train {text}, " for text in metric_texts(training_metrics(record)))
    text += (
        f"Learning Rate {record['learning_rate']:.3e}, "
        f"Tokens/sec {record['tokens_per_s']:.0f}, Trained Tokens {record['tokens']}, "
        f"Peak mem {record['peak_gib']:.3f} GiB"
    )
    if "rollout_share" in record:
        text += (
            f", Rollouts {record['rollout_tokens_per_s']:.0f} tokens/s in "
            f"{record['rollout_share']:.0%} of the time"
        )
    beside = [f"{name} {record[key]:{form}}" for name, key, form in BESIDE if key in record]
    text += f" ({', '.join(beside)})" if beside else ""
    if record.get("skipped"):
        text += f", Skipped steps {record['skipped']}"
    return text


BESIDE = (
    ("active", "active_gib", ".3f"),
    ("cache", "cache_gib", ".3f"),
    ("process", "process_gib", ".3f"),
    ("swap", "swap_growth_gib", "+.3f"),
)
"""Memory in GiB that a line shows after the peak: title, key, format."""


class LiveScreen:
    """A progress bar above a few lines of numbers, rewritten in place; evaluations scroll by.

    Args:
        title: the run's name.
        steps: steps of the whole run.
        done: steps done before.
        console: where it is shown; None is standard output.
        clock: seconds, for the elapsed and the remaining time.
    """

    def __init__(
        self,
        title: str,
        steps: int,
        done: int,
        console: Console | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.console = console or Console(highlight=False, markup=False, emoji=False)
        self.last: Record = {}
        self.losses: list[float] = []
        self.bar = Progress(
            SpinnerColumn(finished_text="✓"),
            TextColumn("{task.description}", style="bold"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("steps"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(compact=True),
            expand=True,
            get_time=clock,
        )
        self.title = title
        self.task = self.bar.add_task(title, total=steps, completed=done)
        self.live = Live(self.panel(), console=self.console, refresh_per_second=4)

    def __enter__(self) -> "LiveScreen":
        self.live.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.live.update(self.panel(), refresh=True)
        self.live.__exit__(None, None, None)

    def write(self, record: Record) -> None:
        self.bar.update(self.task, completed=record["step"])
        if record.keys() & {"sample", "val_loss", "warning"}:
            self.console.print(line(record))
        if "train_loss" in record:
            self.losses.append(record["train_loss"])
        self.last |= record
        self.live.update(self.panel())

    def status(self, text: str) -> None:
        """Show what the run does beside training after its name, or only the name."""
        description = f"{self.title} · {text}" if text else self.title
        self.bar.update(self.task, description=description)

    def panel(self) -> Table:
        """The bar and the numbers as they are now."""
        grid = Table.grid(expand=True)
        grid.add_row(self.bar)
        grid.add_row(numbers(self.last, self.losses))
        return grid


IF_MEASURED = [
    ("rollouts", "rollout_share", ".0%"),
    ("sampled tokens/s", "rollout_tokens_per_s", ",.0f"),
]
"""Cells that are left out where a run has no such number."""

ROWS: dict[str, list[tuple[str, str, str]]] = {
    "train": [("learning rate", "learning_rate", ".2e")],
    "validation": [],
    "speed": [
        ("tokens/s", "tokens_per_s", ",.0f"),
        ("MFU", "mfu", ".0%"),
        ("loader tokens/s", "loader_tokens_per_s", ",.0f"),
        *IF_MEASURED,
    ],
    "memory GiB": [
        ("active", "active_gib", ".2f"),
        ("peak", "peak_gib", ".2f"),
        ("cache", "cache_gib", ".2f"),
        ("process", "process_gib", ".2f"),
    ],
    "swap GiB": [("growth since the run began", "swap_growth_gib", "+.2f")],
}
"""Rows below the bar: name, then (label, key of the record, format) of the trainer's numbers. The
objective's metrics come before them in the first two."""


def numbers(record: Record, losses: list[float]) -> Table:
    """The latest numbers in five rows that fit a terminal of 80 columns."""
    table = Table.grid(padding=(0, 3, 0, 0))
    table.add_column(style="dim", no_wrap=True, min_width=max(map(len, ROWS)))
    table.add_column(no_wrap=True)
    metrics = {"train": training_metrics(record), "validation": validation_metrics(record)}
    for name, cells in ROWS.items():
        present = [cell for cell in cells if cell[1] in record or cell not in IF_MEASURED]
        own_cells = [f"{label} {_number(record, key, spec)}" for label, key, spec in present]
        own_cells += [curve(losses)] if name == "train" and len(losses) > 1 else []
        metric = metrics.get(name)
        row_cells = own_cells if metric is None else [*_fitting(metric, own_cells), *own_cells]
        table.add_row(name, " · ".join(row_cells))
    return table


def _fitting(metrics: dict[str, float], beside: list[str]) -> list[str]:
    """As many metrics, the loss first, as fit a row beside the other cells."""
    cells = metric_texts(metrics) or ["loss -"]
    fit = 1
    while fit < len(cells) and len(" · ".join([*cells[: fit + 1], *beside])) <= ROW_WIDTH:
        fit += 1
    return cells[:fit]


def _number(record: Record, key: str, spec: str) -> str:
    value = record.get(key)
    return "-" if value is None else format(value, spec)


def curve(values: list[float]) -> str:
    """Draw `values` as a line of blocks, each the mean of an equal share of them."""
    finite = [value for value in values if math.isfinite(value)]
    if len(finite) < 2:
        return ""
    width = min(CURVE_WIDTH, len(finite))
    cuts = [len(finite) * i // width for i in range(width + 1)]
    means = [sum(finite[a:b]) / (b - a) for a, b in pairwise(cuts)]
    low, span = min(means), max(max(means) - min(means), 1e-9)
    return "".join(LEVELS[round((mean - low) / span * (len(LEVELS) - 1))] for mean in means)
