"""The result of a sweep: as a table, Markdown, CSV, JSON and a picture."""

import csv
import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from ..runs.durable import replace_text
from ..score.seeds import paired
from ..trainer.metrics import metric_title
from .plot import interval_curves

FILE = "sweep.json"


@dataclass(frozen=True)
class Point:
    """One setting of a sweep.

    Attributes:
        settings: the value of each axis, by key.
        values: the metric at the last evaluation, by seed.
        mean, error: its mean over seeds, and the half width of its 95 % interval.
        runs: names of its runs, one per seed.
        error_text: why it failed, in a sentence.
    """

    settings: dict[str, str]
    values: dict[int, float]
    mean: float | None
    error: float | None
    runs: list[str]
    error_text: str | None = None


@dataclass(frozen=True)
class Sweep:
    """All points of a sweep's last round, and the metric that ranks them."""

    metric: str
    direction: str
    points: list[Point]

    @property
    def best(self) -> Point:
        """The point of the best mean."""
        sign = 1 if self.direction == "min" else -1
        return min(
            (point for point in self.points if point.mean is not None),
            key=lambda point: sign * (point.mean or 0.0),
        )

    def titles(self) -> list[str]:
        """Titles of the columns."""
        keys = [key.rpartition(".")[2] for key in self.points[0].settings]
        return [*keys, "seeds", f"val {metric_title(self.metric)}", "Δ best"]

    def rows(self) -> list[list[str]]:
        """The columns of every point."""
        return [
            [*point.settings.values(), str(len(point.values)), *self._figures(point)]
            for point in self.points
        ]

    def _figures(self, point: Point) -> list[str]:
        if point.mean is None:
            return ["failed", ""]
        mean = f"{point.mean:.4f}" + ("" if point.error is None else f" ± {point.error:.4f}")
        if point is self.best:
            return [mean, "best"]
        delta = paired(point.values, self.best.values)
        if delta is None:
            return [mean, ""]
        return [mean, f"{delta.mean:+.4f}" + ("" if delta.error is None
                                               else f" ± {delta.error:.4f}")]  # fmt: skip

    def verdict(self) -> str:
        """A sentence on the best point, and on those that can't be told from it."""
        best = self.best
        same = [_name(point) for point in self.points if self._alike(point)]
        text = f"Best: {_name(best)}, {metric_title(self.metric)} {best.mean:.4f}."
        if len(best.values) < 2:
            return f"{text} One seed can't tell how much of it is chance."
        if same:
            text += f" {len(best.values)} seeds can't tell it from {'; '.join(same)}."
        ends = [key for key in best.settings if self._at_end(key)]
        if ends:
            text += f" It lies at the end of {', '.join(ends)}: values beyond may be better."
        return text

    def _alike(self, point: Point) -> bool:
        if point is self.best or point.mean is None:
            return False
        delta = paired(point.values, self.best.values)
        return delta is not None and delta.differs_from_zero is False

    def _at_end(self, key: str) -> bool:
        values = [_number(point.settings[key]) for point in self.points]
        numbers = {value for value in values if value is not None}
        if len(numbers) < 2 or None in values:
            return False
        return _number(self.best.settings[key]) in (min(numbers), max(numbers))

    def write(self, folder: Path) -> list[Path]:
        """Write sweep.json, sweep.csv and sweep.md."""
        files = [folder / f"sweep.{suffix}" for suffix in ("json", "csv", "md")]
        replace_text(files[0], json.dumps(asdict(self), indent=2) + "\n")
        lines = io.StringIO()
        writer = csv.writer(lines)
        writer.writerow([*self.points[0].settings, "mean", "error", "seeds", "failed"])
        for point in self.points:
            seeds = " ".join(map(str, point.values))
            writer.writerow([*point.settings.values(), point.mean, point.error, seeds,
                             point.error_text or ""])  # fmt: skip
        replace_text(files[1], lines.getvalue())
        heads = self.titles()
        table = [heads, ["---"] * len(heads), *self.rows()]
        text = "\n".join("| " + " | ".join(row) + " |" for row in table)
        replace_text(files[2], f"{text}\n\n{self.verdict()}\n")
        return files

    def plot(self, path: Path) -> Path:
        """Draw the metric over the first axis, a line for each setting of the others.

        Raises:
            RunError: matplotlib is not installed.
        """
        first, *_ = self.points[0].settings
        lines: dict[str, list[tuple[str, float, float]]] = {}
        for point in self.points:
            if point.mean is None:
                continue
            fixed = {key: value for key, value in point.settings.items() if key != first}
            name = ", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in fixed.items())
            lines.setdefault(name or metric_title(self.metric), []).append(
                (point.settings[first], point.mean, point.error or 0.0)
            )
        return interval_curves(lines, path, first, f"validation {metric_title(self.metric)}")


def _name(point: Point) -> str:
    return ", ".join(f"{key}={value}" for key, value in point.settings.items())


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def read(path: Path) -> Sweep:
    """Read a sweep.json."""
    table = json.loads(path.read_text(encoding="utf-8"))
    points = [
        Point(**{**row, "values": {int(seed): v for seed, v in row["values"].items()}})
        for row in table["points"]
    ]
    return Sweep(table["metric"], table["direction"], points)
