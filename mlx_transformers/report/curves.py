"""Draws the curves of runs: metrics, speed, learning rate, memory."""

import re
import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..trainer.metrics import metric_title, training_metrics, validation_metrics
from . import page
from .charts import Line, heat_map, lines
from .run import Run

MEMORY = {
    "peak_gib": "peak",
    "process_gib": "process",
    "active_gib": "active",
    "cache_gib": "cache",
}
"""Memory of a record: key and title."""
MEMORY_MEANS = (
    "active: what arrays hold at a report; cache: freed memory kept for reuse; peak: the most that "
    "arrays held so far; process: what the system counts for the process, swapped pages included."
)
TOKENS = "training tokens"
MOST_EXPERTS, MOST_LINES = 64, 12
"""Experts of a heat map, and lines of a legend, that a figure has room for."""
SEED = re.compile(r"-seed\d+$")
"""End of the name of a run that `--seeds` made."""


def by_seed(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Group runs whose names differ by their seed alone: "a-seed1", "a-seed2"."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(SEED.sub("", run.name), []).append(run)
    return {name if len(group) > 1 else group[0].name: group for name, group in groups.items()}


def _line(name: str, group: Sequence[Run], key: str, colour: int) -> Line:
    """The curve of a run; of several seeds their mean, with their range as a band."""
    if len(group) == 1:
        return Line(name, group[0].points(key), colour)
    columns = [dict(run.points(key)) for run in group]
    common = [x for x in columns[0] if all(x in column for column in columns)]
    values = [[column[x] for column in columns] for x in common]
    points = [(x, statistics.fmean(of_seeds)) for x, of_seeds in zip(common, values, strict=True)]
    return Line(name, points, colour, [(min(of_seeds), max(of_seeds)) for of_seeds in values])


def _curve(runs: Sequence[Run], key: str, title: str, unit: str, **options: Any) -> str:
    """One quantity of every run as a figure; empty if no run has it."""
    drawn = [_line(name, group, key, i) for i, (name, group) in enumerate(by_seed(runs).items())]
    if not any(len(line.points) > 1 for line in drawn):
        return ""  # a single dot is no curve; the summary has its value
    svg = lines(key.replace("_", "-"), f"{title}, {unit}", drawn, x_label=TOKENS, **options)
    return page.figure(svg, title, unit)


def loss(runs: Sequence[Run]) -> str:
    """Every metric of the objective; of one run, training and validation on the same axes."""
    records = [record for run in runs for record in run.records]
    trained = dict.fromkeys(name for record in records for name in training_metrics(record))
    measured = dict.fromkeys(name for record in records for name in validation_metrics(record))
    if len(runs) == 1:
        both = dict.fromkeys([*trained, *measured])
        return page.figures(*(_training_and_validation(runs[0], name) for name in both))
    return page.figures(
        *(_curve(runs, _train_key(n), f"Training {metric_title(n)}", _unit(n)) for n in trained),
        *(_curve(runs, f"val_{n}", f"Validation {metric_title(n)}", _unit(n)) for n in measured),
    )


def _training_and_validation(run: Run, name: str) -> str:
    """A metric of one run, in training and in validation, on the same axes."""
    curves = [
        Line("training", run.points(_train_key(name)), 0),
        Line("validation", run.points(f"val_{name}"), 1),
    ]
    curves = [line for line in curves if line.points]
    if not any(len(line.points) > 1 for line in curves):
        return ""
    caption = f"{metric_title(name).capitalize()}, {' and '.join(line.label for line in curves)}"
    svg = lines(name.replace("_", "-"), caption, curves, x_label=TOKENS, legend=len(curves) > 1)
    return page.figure(svg, caption, _unit(name))


def _train_key(name: str) -> str:
    """The key of an objective's metric in a training record."""
    return "train_loss" if name == "loss" else name


def _unit(name: str) -> str:
    return "nats" if name == "loss" else ""


LAYER_MEANS = (
    "max load: tokens of the busiest expert, 1 is an even share; dropped: share of choices that "
    "found their expert full; router entropy in nats; expert load: that of the last record."
)


def layers(runs: Sequence[Run]) -> str:
    """Statistics of single layers, a figure each, with a line per layer; of one run alone."""
    if len(runs) > 1:
        return ""
    by_name: dict[str, dict[int, list[tuple[float, Any]]]] = {}
    for key in dict.fromkeys(key for record in runs[0].records for key in record):
        name, slash, layer = key.rpartition("/")
        if slash and layer.isdigit():
            by_name.setdefault(name, {})[int(layer)] = runs[0].points(key)
    drawn = [_layer_figure(name, by_layer) for name, by_layer in sorted(by_name.items())]
    note = f'<p class="soft">{LAYER_MEANS}</p>' if "max_load" in by_name else ""
    return page.figures(*drawn) + note if any(drawn) else ""


def _layer_figure(name: str, by_layer: dict[int, list[tuple[float, Any]]]) -> str:
    """One statistic: a line per layer, or a heat map of the last lists."""
    last = {layer: points[-1][1] for layer, points in sorted(by_layer.items()) if points}
    id_, caption = f"layers-{name.replace('_', '-')}", f"{metric_title(name).capitalize()} by layer"
    if any(isinstance(value, list) for value in last.values()):
        if max(map(len, last.values())) > MOST_EXPERTS:
            return ""
        rows = [str(layer + 1) for layer in last]
        columns = range(1, max(map(len, last.values())) + 1)
        cells = [[*value, *[""] * (len(columns) - len(value))] for value in last.values()]
        span = (0.0, max(max(value) for value in last.values()))
        svg = heat_map(
            id_, caption, rows, [str(e) for e in columns], cells, spec=".2f", span=span,
            row_label="layer", column_label="expert",
        )  # fmt: skip
        return page.figure(svg, caption, "")
    curves = [
        Line(f"layer {layer + 1}", by_layer[layer], i) for i, layer in enumerate(sorted(by_layer))
    ]
    if not any(len(line.points) > 1 for line in curves):
        return ""
    svg = lines(id_, caption, curves, x_label=TOKENS, legend=len(curves) <= MOST_LINES)
    return page.figure(svg, caption, "")


def speed(runs: Sequence[Run]) -> str:
    return page.figures(
        _curve(runs, "tokens_per_s", "Speed", "tokens/s", from_zero=True),
        _curve(runs, "learning_rate", "Learning rate", "", from_zero=True),
        _curve(runs, "grad_norm", "Gradient norm", "before clipping", from_zero=True),
    )


NOISE_MEANS = (
    "Tokens of a step beyond which more of them add little (McCandlish et al. 2018): the ratio of "
    "running means of grad_noise and grad_signal."
)
SMOOTH = 0.9
"""Share of its past that a running mean of the noise scale keeps at each record."""


def noise(runs: Sequence[Run]) -> str:
    """The gradient noise scale of each run that measures it; of one run beside its step's size."""
    curves = [Line(run.name, _noise_scale(run), i) for i, run in enumerate(runs)]
    curves = [line for line in curves if len(line.points) > 1]
    if not curves:
        return ""
    if len(runs) == 1:
        curves = [
            replace(curves[0], label="noise scale"),
            Line("tokens of a step", _sizes(runs[0]), 1),
        ]
    title = "Gradient noise scale"
    svg = lines("noise-scale", f"{title}, tokens", curves, x_label=TOKENS, legend=True)
    return page.figures(page.figure(svg, title, "tokens")) + f'<p class="soft">{NOISE_MEANS}</p>'


def _noise_scale(run: Run) -> list[tuple[float, float]]:
    signals, noises = run.points("grad_signal"), run.values("grad_noise")
    signal = noise = 0.0
    points = []
    for (tokens, one), other in zip(signals, noises, strict=True):
        signal = SMOOTH * signal + (1 - SMOOTH) * one
        noise = SMOOTH * noise + (1 - SMOOTH) * other
        if signal > 0 and noise > 0:
            points.append((tokens, noise / signal))
    return points


def _sizes(run: Run) -> list[tuple[float, float]]:
    """The mean tokens of the steps between two training records."""
    records = [record for record in run.records if "train_loss" in record]
    before = [{"step": 0, "tokens": 0}, *records]
    return [
        (new["tokens"], (new["tokens"] - old["tokens"]) / (new["step"] - old["step"]))
        for old, new in zip(before, records, strict=False)
        if new["step"] > old["step"]
    ]


def memory(runs: Sequence[Run]) -> str:
    note = f'<p class="soft">{MEMORY_MEANS}</p>'
    if len(runs) > 1:
        figures = [
            _curve(runs, k, t.capitalize(), "GiB", from_zero=True) for k, t in MEMORY.items()
        ]
        return page.figures(*figures) + note if any(figures) else ""
    kinds = [Line(t, runs[0].points(k), i) for i, (k, t) in enumerate(MEMORY.items())]
    if not any(line.points for line in kinds):
        return ""
    svg = lines("memory", "Memory, GiB", kinds, x_label=TOKENS, legend=True, from_zero=True)
    return page.figures(page.figure(svg, "Memory", "GiB")) + note
