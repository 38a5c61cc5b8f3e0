"""Writes the report of a run, or of several on the same axes: one offline HTML file."""

import json
import math
import statistics
import struct
import tomllib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

from ..assembly.checks import objective_kinds
from ..core.errors import FormatError, RunError
from ..core.loss import VAL_LOSS, Best
from ..core.parse import parse_toml, read_table
from ..profile.sweep import Axis, Cell, read_sweep
from ..recipe.merge import dotted, leaves
from ..recipe.toml import toml_value
from ..runs.folder import RUNS, LogWarning, RunFolder, find
from ..trainer.metrics import metric_title, training_metrics, validation_metrics
from . import page
from .charts import Line, lines
from .figure import N_SERIES
from .plans import parts, phases, plan_rows
from .profiles import sweep_maps, sweep_table

Record = dict[str, Any]
Sweep = tuple[list[Axis], list[Cell]]

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


def report(
    runs: Sequence[str | Path],
    out: Path | None = None,
    root: Path = RUNS,
    sweep: Path | None = None,
) -> Path:
    """Write the report of runs, given by name or folder; none means the newest.

    Args:
        runs: names below `root`, or folders.
        out: the file; None is report.html in the folder of one run, or for several one in `root`
            that is named after them.
        root: the folder of runs.
        sweep: a file with a sweep of their recipe, to be shown beside them.

    Raises:
        RunError: there is no such run or sweep, a run has no record yet, matplotlib is not
            installed, or `out` is a file that is not a report.
    """
    folders = [find(run, root) for run in runs] or [find(None, root)]
    found = None if sweep is None else read_sweep(sweep)
    return write([read(folder) for folder in folders], out, root, found)


def write(
    runs: Sequence[Run], out: Path | None = None, root: Path = RUNS, sweep: Sweep | None = None
) -> Path:
    """Write the report of runs that were read; the arguments are those of `report`."""
    runs = _named_apart(runs)
    if out is None and len(runs) == 1:
        out = runs[0].folder.path / "report.html"
    return _page(runs, sweep).write(
        out or root / f"report-{'-'.join(r.name for r in runs)[:80]}.html"
    )


def written(folder: RunFolder) -> str:
    """Write the report of a run that ended; returns a sentence with its path, or the reason why
    there is none."""
    try:
        return f"Report: {write([read(folder)])}"
    except RunError as error:  # a missing report must not fail the run
        return f"Without a report: {error}"


def _named_apart(runs: Sequence[Run]) -> list[Run]:
    """Name runs by their whole path where two have the same name."""
    names = [run.name for run in runs]
    return [
        replace(run, name=str(run.folder.path)) if names.count(run.name) > 1 else run
        for run in runs
    ]


def _page(runs: Sequence[Run], sweep: Sweep | None) -> page.Page:
    names = [run.name for run in runs]
    last = max(run.folder.log.stat().st_mtime for run in runs)
    when = datetime.fromtimestamp(last).astimezone().strftime("%Y-%m-%d %H:%M %Z")
    leads = [f'<span class="soft">Last record of {escape(when)}.</span>']
    if len(runs) > 1:
        leads.append(" &ensp; ".join(page.swatch(n, i % N_SERIES) for i, n in enumerate(names)))
    out = page.Page(" · ".join(names), *leads)
    out.add("summary", "Summary", _facts(names, [_summary(run) for run in runs]))
    out.add("loss", "Loss and validation", _loss(runs))
    out.add("speed", "Speed and learning rate", _speed(runs))
    out.add("memory", "Memory", _memory(runs))
    out.add("plan", "Plan against actual", _plan(runs))
    if sweep is not None:
        out.add("sweep", "Sweep", sweep_maps(*sweep), sweep_table(*sweep))
    out.add("samples", "Samples", *(_samples(run, len(runs) == 1) for run in runs))
    if len(runs) > 1:
        out.add("differences", "Recipe differences", _differences(runs))
    out.add("recipe", "Recipe", *(_recipe(run, len(runs) == 1) for run in runs))
    out.add("environment", "Environment", _environment(runs))
    out.add("command", "Command", *(_command(run, len(runs) > 1) for run in runs))
    return out


def _summary(run: Run) -> dict[str, str]:
    """The rows of the summary: sizes, losses, speed, memory."""
    last = run.records[-1]
    out = {"steps": f"{last['step']:,}", "tokens": f"{last['tokens']:,}"}
    if size := _parameters(run.folder):
        out["parameters"] = f"{size:,}"
    if losses := run.values("train_loss"):
        out["training loss, last"] = f"{losses[-1]:.4f}"
    evaluations = [r for r in run.records if r.get("val_loss") is not None]
    if evaluations:
        best = _best(run, evaluations)
        metrics = validation_metrics(best)
        first = run.best.metric.removeprefix("val_")
        ranked = {first: metrics[first]} if first in metrics else {}
        for i, (name, value) in enumerate((ranked | metrics).items()):
            words = metric_title(name)
            out[f"… {words}" if i else f"validation {words}, best"] = f"{value:,.4f}"
        out["… at step"] = f"{best['step']:,}"
    if speeds := run.values("tokens_per_s"):
        out["tokens/s, median"] = f"{statistics.median(speeds):,.0f}"
        out["… lowest to highest"] = f"{min(speeds):,.0f} to {max(speeds):,.0f}"
    if shares := run.values("mfu"):
        out["MFU, median"] = f"{statistics.median(shares):.1%}"
    for key, words in (("peak_gib", "peak MLX memory"), ("process_gib", "peak process memory")):
        if found := run.values(key):
            out[words] = f"{max(found):.3f} GiB"
    if seconds := run.values("seconds_total"):
        out["time in steps"] = f"{seconds[-1]:,.1f} s"
    if skipped := last.get("skipped"):
        out["skipped steps"] = f"{skipped:,}"
    return out


def _best(run: Run, evaluations: Sequence[Record]) -> Record:
    """The best of a run's evaluations by its objective's metric; the last if none has it."""
    best, value = evaluations[-1], None
    for record in evaluations:
        found = record.get(run.best.metric)
        if found is not None and run.best.improves(found, value):
            best, value = record, found
    return best


def _parameters(folder: RunFolder) -> int | None:
    """Count the parameters of the newest checkpoint, from the header of its file."""
    saved = folder.newest()
    try:
        with open(saved / "model.safetensors", "rb") as file:  # type: ignore[operator]
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
    except (OSError, TypeError, ValueError, struct.error):
        return None  # none yet, or damaged: for those who load it to complain about
    return sum(math.prod(t["shape"]) for name, t in header.items() if name != "__metadata__")


def _curve(runs: Sequence[Run], key: str, title: str, unit: str, **options: Any) -> str:
    """One quantity of every run as a figure; empty if no run has it."""
    found = [Line(run.name, run.points(key), i) for i, run in enumerate(runs)]
    if not any(line.points for line in found):
        return ""
    svg = lines(key.replace("_", "-"), f"{title}, {unit}", found, x_label=TOKENS, **options)
    return page.figure(svg, title, unit)


def _loss(runs: Sequence[Run]) -> str:
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
    found = [
        Line("training", run.points(_train_key(name)), 0),
        Line("validation", run.points(f"val_{name}"), 1),
    ]
    found = [line for line in found if line.points]
    words = f"{metric_title(name).capitalize()}, {' and '.join(line.label for line in found)}"
    svg = lines(name.replace("_", "-"), words, found, x_label=TOKENS, legend=len(found) > 1)
    return page.figure(svg, words, _unit(name))


def _train_key(name: str) -> str:
    """The key of an objective's metric in a training record."""
    return "train_loss" if name == "loss" else name


def _unit(name: str) -> str:
    return "nats" if name == "loss" else ""


def _speed(runs: Sequence[Run]) -> str:
    return page.figures(
        _curve(runs, "tokens_per_s", "Speed", "tokens/s", from_zero=True),
        _curve(runs, "learning_rate", "Learning rate", "", from_zero=True),
        _curve(runs, "grad_norm", "Gradient norm", "before clipping", from_zero=True),
    )


def _memory(runs: Sequence[Run]) -> str:
    note = f'<p class="soft">{MEMORY_MEANS}</p>'
    if len(runs) > 1:
        found = [_curve(runs, k, t.capitalize(), "GiB", from_zero=True) for k, t in MEMORY.items()]
        return page.figures(*found) + note if any(found) else ""
    kinds = [Line(t, runs[0].points(k), i) for i, (k, t) in enumerate(MEMORY.items())]
    if not any(line.points for line in kinds):
        return ""
    svg = lines("memory", "Memory, GiB", kinds, x_label=TOKENS, legend=True, from_zero=True)
    return page.figures(page.figure(svg, "Memory", "GiB")) + note


def _plan(runs: Sequence[Run]) -> str:
    """What was planned beside what was measured, for the runs that kept their plan."""
    known = [run for run in runs if run.plan]
    if not known:
        return ""
    rows = [plan_rows(r.plan, {k: max(r.values(k)) for k in MEMORY if r.values(k)}) for r in known]
    table = _facts([run.name for run in known], rows)
    return table + (parts(runs[0].plan) + phases(runs[0].plan) if len(runs) == 1 else "")


def _samples(run: Run, alone: bool) -> str:
    found = [r for r in run.records if r.get("sample")]
    shown = [
        page.folded(
            f"Step {r['step']:,}" if alone else f"{run.name}, step {r['step']:,}",
            page.text(r["sample"], wrap=True),
            unfolded=r is found[-1],
        )
        for r in reversed(found)
    ]
    return "".join(shown)


def _recipe(run: Run, alone: bool) -> str:
    """The resolved recipe as the run keeps it: each key with the file that set it."""
    return page.folded(
        f"{run.name}: every key and what set it", page.text(run.recipe), unfolded=alone
    )


def _parsed(run: Run) -> dict[str, Any]:
    try:
        return parse_toml(run.recipe, str(run.folder.recipe))
    except tomllib.TOMLDecodeError as error:
        raise RunError(f"{run.folder.recipe} is damaged: {error}.") from None


def _differences(runs: Sequence[Run]) -> str:
    """The keys in which not all recipes agree."""
    tables = [{dotted(p): v for p, v in leaves(_parsed(run))} for run in runs]
    paths = sorted({path for table in tables for path in table})
    rows = []
    for path in paths:
        said = [toml_value(table[path]) if path in table else "" for table in tables]
        if len(set(said)) > 1:
            rows.append([escape(cell) for cell in (path, *said)])
    if not rows:
        return "<p>Their recipes say the same.</p>"
    return page.table(["key", *(escape(run.name) for run in runs)], rows)


def _environment(runs: Sequence[Run]) -> str:
    kept = [
        {k: _plain(v) for k, v in run.environment.items() if k != "command" and v not in (None, [])}
        for run in runs
    ]
    if all(facts == kept[0] for facts in kept):
        return _facts([""], kept[:1])
    return _facts([run.name for run in runs], kept)


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return "\n".join(map(str, value))
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _command(run: Run, named: bool) -> str:
    title = f"<p>{escape(run.name)}</p>" if named else ""
    return title + page.text(run.environment.get("command") or "not kept", wrap=True)


def _facts(names: Sequence[str], tables: Sequence[Mapping[str, str]]) -> str:
    """Facts as rows, runs as columns."""
    keys = dict.fromkeys(key for table in tables for key in table)
    rows = [
        [escape(key.replace("_", " ")), *(escape(table.get(key, "")) for table in tables)]
        for key in keys
    ]
    return page.table(["", *map(escape, names)] if len(names) > 1 else ["", ""], rows)
