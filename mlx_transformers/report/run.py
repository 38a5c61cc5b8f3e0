"""Reads the folder of a run for a report: its records, its summary, its headline."""

import math
import statistics
import tomllib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..assembly.checks import objective_kinds
from ..convert.safetensors import read_header
from ..core.errors import FormatError, RunError
from ..core.loss import VAL_LOSS, Best
from ..core.parse import parse_toml, read_table
from ..runs.folder import LogWarning, RunFolder
from ..trainer.metrics import metric_title, validation_metrics
from ..trainer.sinks import Record


@dataclass(frozen=True)
class Run:
    """The content of a run's folder."""

    name: str
    folder: RunFolder
    records: list[Record]
    recipe: str
    environment: dict[str, Any]
    plan: dict[str, Any]
    best: Best = VAL_LOSS
    """The metric that ranks its evaluations."""

    def points(self, key: str) -> list[tuple[float, float]]:
        """The pairs (tokens trained on, value) of the records that have the key."""
        return [(r["tokens"], r[key]) for r in self.records if r.get(key) is not None]

    def values(self, key: str) -> list[float]:
        """The values of the key, in order."""
        return [value for _, value in self.points(key)]

    def best_evaluation(self) -> Record | None:
        """The best evaluation by the objective's metric, the last if none has it, or None."""
        evaluations = [r for r in self.records if r.get("val_loss") is not None]
        best, value = (evaluations[-1] if evaluations else None), None
        for record in evaluations:
            metric = record.get(self.best.metric)
            if metric is not None and self.best.improves(metric, value):
                best, value = record, metric
        return best


def read(folder: RunFolder) -> Run:
    """Read the folder of a run, finished or not.

    Raises:
        RunError: it has no record yet.
    """
    records = list(folder.records())
    if not records:
        raise RunError(
            f"{folder.path} has no record yet, so there is nothing to report: log.jsonl gets one "
            "every log.every steps."
        )
    place = folder.path / "environment.json"
    environment, plan = _optional(place), _optional(folder.plan)
    recipe = folder.recipe.read_text(encoding="utf-8", errors="replace")
    return Run(folder.name, folder, records, recipe, environment, plan, _ranking(recipe))


def _ranking(recipe: str) -> Best:
    """The ranking metric of a recipe's objective; the validation loss if it can't be read."""
    try:
        objective = parse_toml(recipe, "recipe.toml").get("objective")
    except (FormatError, tomllib.TOMLDecodeError):
        return VAL_LOSS
    kind = objective.get("kind") if isinstance(objective, dict) else None
    found = objective_kinds().get(str(kind))
    return VAL_LOSS if found is None else found.best


def _optional(path: Path) -> dict[str, Any]:
    """Return the table of a JSON file; of a missing or damaged one nothing, with a warning."""
    try:
        return read_table(path) if path.exists() else {}
    except (OSError, FormatError) as error:
        warnings.warn(f"{error} The report leaves out what it holds.", LogWarning, stacklevel=2)
        return {}


def summary(run: Run) -> dict[str, str]:
    """The rows of the summary: sizes, losses, speed, memory."""
    last = run.records[-1]
    out = {"steps": f"{last['step']:,}", "tokens": f"{last['tokens']:,}"}
    if size := _parameters(run.folder):
        out["parameters"] = f"{size:,}"
    if losses := run.values("train_loss"):
        out["training loss, last"] = f"{losses[-1]:.4f}"
    if best := run.best_evaluation():
        metrics = validation_metrics(best)
        first = run.best.metric.removeprefix("val_")
        ranked = {first: metrics[first]} if first in metrics else {}
        for i, (name, value) in enumerate((ranked | metrics).items()):
            label = metric_title(name)
            out[f"… {label}" if i else f"validation {label}, best"] = f"{value:,.4f}"
        out["… at step"] = f"{best['step']:,}"
    if speeds := run.values("tokens_per_s"):
        out["tokens/s, median"] = f"{statistics.median(speeds):,.0f}"
        out["… lowest to highest"] = f"{min(speeds):,.0f} to {max(speeds):,.0f}"
    if shares := run.values("mfu"):
        out["MFU, median"] = f"{statistics.median(shares):.1%}"
    for key, label in (("peak_gib", "peak MLX memory"), ("process_gib", "peak process memory")):
        if measured := run.values(key):
            out[label] = f"{max(measured):.3f} GiB"
    if seconds := run.values("seconds_total"):
        out["time in steps"] = f"{seconds[-1]:,.1f} s"
    if skipped := last.get("skipped"):
        out["skipped steps"] = f"{skipped:,}"
    return out


def _parameters(folder: RunFolder) -> int | None:
    """Count the parameters of the newest checkpoint, from the header of its file."""
    saved = folder.newest()
    if saved is None:
        return None
    try:
        header = read_header(saved / "model.safetensors")
    except (OSError, ValueError):
        return None  # damaged: for those who load it to complain about
    return sum(math.prod(entry.shape) for entry in header.values())


def headline(run: Run) -> str:
    """One sentence: the best metric, the steps and tokens it took, and the speed."""
    last, best = run.records[-1], run.best_evaluation()
    trained = f"{last['step']:,} steps ({_many(last['tokens'])} tokens)"
    if seconds := run.values("seconds_total"):
        trained += f" in {_duration(seconds[-1])}"
    if speeds := run.values("tokens_per_s"):
        trained += f", {statistics.median(speeds):,.0f} tokens/s"
    if best is None:
        return f"Not evaluated yet; {trained}."
    metrics = validation_metrics(best)
    name = "bpb" if "bpb" in metrics else run.best.metric.removeprefix("val_")
    if name not in metrics:
        return f"{trained}."
    text = f"Validation {metric_title(name)} {metrics[name]:,.4f}"
    at = "" if best["step"] == last["step"] else f" at step {best['step']:,}"
    return f"{text}{at}, after {trained}."


def _many(number: float) -> str:
    """Format a large number: "3.07 M"."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {letter}"
    return f"{number:,.0f}"


def _duration(seconds: float) -> str:
    """Format a duration: "40 s", "12 min", "3.5 h"."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
