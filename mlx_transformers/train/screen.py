"""What a person sees while a run goes on: a live panel on a terminal, plain lines elsewhere."""

import sys
from typing import Any, Protocol

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

Record = dict[str, Any]


class Screen(Protocol):
    """A sink that can be opened and closed around a run."""

    def __enter__(self) -> "Screen": ...
    def __exit__(self, *error: object) -> None: ...
    def write(self, record: Record) -> None: ...


def open_screen(title: str, steps: int, done: int) -> Screen:
    """The live panel where standard output is a terminal, else plain lines."""
    return LiveScreen(title, steps, done) if sys.stdout.isatty() else PlainScreen(steps)


class PlainScreen:
    """One line per record, in the manner of mlx-lm's trainer."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def __enter__(self) -> "PlainScreen":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def write(self, record: Record) -> None:
        print(line(record), flush=True)


def line(record: Record) -> str:
    """One record as a sentence of numbers."""
    head = f"Iter {record['step']}: "
    if "sample" in record:
        return head + "Sample:\n" + record["sample"]
    if "val_loss" in record:
        return head + (
            f"Val loss {record['val_loss']:.3f}, Val ppl {record['val_ppl']:.2f}, "
            f"Val bits/byte {record['val_bpb']:.3f}"
        )
    text = head + (
        f"Train loss {record['train_loss']:.3f}, Learning Rate {record['learning_rate']:.3e}, "
        f"Tokens/sec {record['tokens_per_s']:.0f}, Trained Tokens {record['tokens']}, "
        f"Peak mem {record['peak_gib']:.3f} GiB"
    )
    if record.get("skipped"):
        text += f", Skipped steps {record['skipped']}"
    return text


class LiveScreen:
    """A progress bar over a small table that is rewritten in place; evaluations scroll above."""

    def __init__(self, title: str, steps: int, done: int) -> None:
        self.console = Console()
        self.title = title
        self.last: Record = {}
        self.best: float | None = None
        self.bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps · left"),
            TimeRemainingColumn(),
        )
        self.task = self.bar.add_task(title, total=steps, completed=done)
        self.live = Live(self._panel(), console=self.console, refresh_per_second=4)

    def __enter__(self) -> "LiveScreen":
        self.live.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.live.update(self._panel(), refresh=True)
        self.live.__exit__(None, None, None)

    def write(self, record: Record) -> None:
        self.bar.update(self.task, completed=record["step"])
        if "sample" in record or "val_loss" in record:
            self.console.print(line(record), highlight=False, markup=False)
        self.last |= record
        self.live.update(self._panel())

    def _panel(self) -> Table:
        grid = Table.grid()
        grid.add_row(self.bar)
        grid.add_row(self._numbers())
        return grid

    def _numbers(self) -> Table:
        r = self.last
        table = Table(show_header=True, box=None, padding=(0, 2))
        cells = {
            "loss": _format(r, "train_loss", ".3f"),
            "val loss": _format(r, "val_loss", ".3f"),
            "bits/byte": _format(r, "val_bpb", ".3f"),
            "learning rate": _format(r, "learning_rate", ".2e"),
            "tokens/s": _format(r, "tokens_per_s", ",.0f"),
            "MFU": _format(r, "mfu", ".0%"),
            "memory GiB: active": _format(r, "active_gib", ".2f"),
            "cache": _format(r, "cache_gib", ".2f"),
            "peak": _format(r, "peak_gib", ".2f"),
            "process": _format(r, "process_gib", ".2f"),
        }
        for name in cells:
            table.add_column(name, justify="right", header_style="dim")
        table.add_row(*cells.values())
        return table


def _format(record: Record, name: str, spec: str) -> str:
    return format(record[name], spec) if name in record else "-"
