"""Metrics of training reports and evaluations: how they are collected, named and written.

Names carry their unit (`tokens_per_s`, `peak_gib`). A training record has the trainer's own
numbers, and `train_loss` and whatever else the objective reports; an evaluation has `val_loss`, and
the objective's other metrics with `val_` before their names. Screens and reports tell them apart by
the functions below.
"""

import math
import time
from collections.abc import Mapping
from typing import Any

import mlx.core as mx

from ..core.device import GIB
from ..core.loss import UNITS
from ..core.power import EnergyCounter
from ..core.system import process_bytes, swap_bytes

TRAINER_KEYS = frozenset(
    (
        *("step", "tokens", "seconds", "seconds_total", "joules", "skipped"),
        *("learning_rate", "grad_norm", "tokens_per_s", "loader_tokens_per_s", "mfu"),
        *("rollout_tokens_per_s", "rollout_share", "rollout_fill"),
        *("grad_signal", "grad_noise"),
        *("active_gib", "cache_gib", "peak_gib", "process_gib", "swap_growth_gib"),
    )
)
"""Numbers of a training record that the trainer measures, whatever the objective."""

COUNTS = frozenset(f"val_{unit}s" for unit in UNITS)
"""Sizes of an evaluation."""

ABBREVIATIONS = {"ppl": "perplexity", "bpb": "bits/byte"}
"""Words of metrics' names that are written out."""


def training_metrics(record: Mapping[str, Any]) -> dict[str, float]:
    """The objective's metrics in a training record, by name: "loss", and whatever it reports.

    Statistics of single layers, whose names end in a slash and a number, are left out.
    """
    if "train_loss" not in record:
        return {}
    reported = {
        name: value
        for name, value in record.items()
        if name not in TRAINER_KEYS
        and name != "train_loss"
        and not name.startswith("val_")  # the screen merges the last records of both kinds
        and "/" not in name
    }
    return {"loss": record["train_loss"]} | _numbers(reported)


def validation_metrics(record: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of an evaluation's record, by name without `val_`; its sizes are left out."""
    metrics = {
        name.removeprefix("val_"): value
        for name, value in record.items()
        if name.startswith("val_") and name not in COUNTS
    }
    return _numbers(metrics)


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """The entries that are numbers; log.jsonl has null for NaN."""
    return {
        name: float("nan") if value is None else value
        for name, value in values.items()
        if value is None or isinstance(value, int | float)
    }


def metric_title(name: str) -> str:
    """A metric's name in words: "perplexity", "masked accuracy", "loss on NAME"."""
    name, slash, text = name.removeprefix("val_").partition("/")
    title = " ".join(ABBREVIATIONS.get(word, word) for word in name.split("_"))
    return f"{title} on {text}" if slash else title


def metric_texts(metrics: Mapping[str, float]) -> list[str]:
    """Format metrics with their titles: "loss 3.142", "perplexity 23.150"."""
    return [f"{metric_title(name)} {format_metric(value)}" for name, value in metrics.items()]


def format_metric(value: float) -> str:
    """Format a metric of unknown size: "3.142", "0.00012", "123,456.7"."""
    if not math.isfinite(value) or 0.001 <= abs(value) < 1000 or value == 0:
        return f"{value:.3f}"
    return f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.2g}"


class Window:
    """Collects lazy metrics and reads them all at once when a report is due.

    Losses are weighted by the tokens of their step; `tokens_per_s` divides the tokens of the
    window by the seconds between `start` and `read`, pauses left out.
    """

    def __init__(self, flops_per_token: float, peak_flops: float | None) -> None:
        self.flops_per_token = flops_per_token
        self.peak_flops = peak_flops
        self.swap = swap_bytes()
        self.energy = EnergyCounter()
        self.restart()

    def restart(self) -> None:
        """Begin a new window: no metrics, the clock at zero."""
        self.metrics: list[dict[str, mx.array]] = []
        self.tokens = 0
        self.started = time.perf_counter()
        self.paused = 0.0

    def add(self, metrics: dict[str, mx.array], tokens: int) -> None:
        """Add the lazy metrics of a step of so many tokens."""
        self.metrics.append(metrics)
        self.tokens += tokens

    def pause(self, seconds: float) -> None:
        """Leave time out that was not spent on steps: evaluation, saving, sampling."""
        self.paused += seconds

    def pending(self) -> tuple[int, float]:
        """Count the skipped steps and the seconds that no report has counted yet."""
        mx.eval(self.metrics)
        skipped = sum(not m["finite"].item() for m in self.metrics)
        return skipped, time.perf_counter() - self.started - self.paused

    def read(self) -> dict[str, Any]:
        """Evaluate and average the metrics of the window; then begin a new one.

        Metrics are numbers; the statistics of a layer may be lists of them.
        """
        mx.eval(self.metrics)
        seconds = max(time.perf_counter() - self.started - self.paused, 1e-9)
        rows: list[dict[str, Any]] = [
            {name: value.tolist() for name, value in m.items()} for m in self.metrics
        ]
        done = [row for row in rows if row["finite"]]
        report: dict[str, Any] = {
            "skipped": float(len(rows) - len(done)),
            "learning_rate": rows[-1]["learning_rate"],
            "tokens_per_s": self.tokens / seconds,
            "seconds": seconds,
            **memory(),
        }
        if (swap := swap_bytes()) is not None and self.swap is not None:
            report["swap_growth_gib"] = (swap - self.swap) / GIB
        if (joules := self.energy.joules()) is not None:
            report["joules"] = joules
        if self.peak_flops:
            share = self.tokens / seconds * self.flops_per_token / self.peak_flops
            if share <= 1:  # more: other processes slowed the reference product down
                report["mfu"] = share
        weight = sum(row["tokens"] for row in done)
        for name in (n for n in rows[-1] if n not in ("finite", "learning_rate", "tokens")):
            values = [(row[name], row["tokens"]) for row in done]
            report["train_loss" if name == "loss" else name] = _mean(values, weight)
        self.restart()
        return report


def _mean(values: list[tuple[Any, float]], weight: float) -> float | list[float]:
    """The mean of values and their weights, which sum to `weight`; of lists element by element."""
    if not weight:
        return float("nan")
    if isinstance(values[0][0], list):
        columns = zip(*(value for value, _ in values), strict=True)
        weights = [w for _, w in values]
        return [
            sum(v * w for v, w in zip(column, weights, strict=True)) / weight for column in columns
        ]
    total: float = sum(value * w for value, w in values)
    return total / weight


def memory() -> dict[str, float]:
    """Memory in GiB: MLX's active, cached and peak memory, and the size of the process."""
    return {
        "active_gib": mx.get_active_memory() / GIB,
        "cache_gib": mx.get_cache_memory() / GIB,
        "peak_gib": mx.get_peak_memory() / GIB,
        "process_gib": process_bytes() / GIB,
    }
