"""The report of a run, or of several on the same axes: one offline HTML file."""

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

from ..core.errors import FormatError, RunError
from ..core.parse import parse_toml, read_table
from ..profile.sweep import Axis, Cell, read_sweep
from ..recipe.merge import dotted, leaves
from ..recipe.toml import toml_value
from ..runs.folder import RUNS, LogWarning, RunFolder, find
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
"""What a record says of memory."""
MEMORY_MEANS = (
    "active: what arrays hold at a report; cache: freed memory kept for reuse; peak: the most that "
    "arrays held so far; process: what the system counts for the process, swapped pages included."
)
TOKENS = "training tokens"


@dataclass(frozen=True)
class Run:
    """What a run's folder says."""

    name: str
    folder: RunFolder
    records: list[Record]
    recipe: str
    environment: dict[str, Any]
    plan: dict[str, Any]

    def points(self, key: str) -> list[tuple[float, float]]:
        """(tokens trained on, value) of every record that has the key."""
        return [(r["tokens"], r[key]) for r in self.records if r.get(key) is not None]

    def values(self, key: str) -> list[float]:
        """Every value of the key, in order."""
        return [value for _, value in self.points(key)]


def read(folder: RunFolder) -> Run:
    """A run as its folder has it now, finished or not.

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
    recipe = folder.recipe.read_text(encoding="utf-8")
    return Run(folder.name, folder, records, recipe, environment, plan)


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
    """As `report`, of runs that were read."""
    runs = _named_apart(runs)
    if out is None and len(runs) == 1:
        out = runs[0].folder.path / "report.html"
    return _page(runs, sweep).write(
        out or root / f"report-{'-'.join(r.name for r in runs)[:80]}.html"
    )


def written(folder: RunFolder) -> str:
    """Write the report of a run that ended; the sentence that says so, or why there is none."""
    try:
        return f"Report: {write([read(folder)])}"
    except RunError as error:  # a run is not worth less without it
        return f"Without a report: {error}"


def _named_apart(runs: Sequence[Run]) -> list[Run]:
    """The runs, with their whole path for a name where two have the same."""
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
    """The numbers that one looks for first."""
    last = run.records[-1]
    out = {"steps": f"{last['step']:,}", "tokens": f"{last['tokens']:,}"}
    if size := _parameters(run.folder):
        out["parameters"] = f"{size:,}"
    if losses := run.values("train_loss"):
        out["training loss, last"] = f"{losses[-1]:.4f}"
    evaluations = [r for r in run.records if r.get("val_loss") is not None]
    if evaluations:
        best = min(evaluations, key=lambda r: r["val_loss"])
        out["validation loss, best"] = f"{best['val_loss']:.4f}"
        if "val_bpb" in best:
            out["… bits per byte"] = f"{best['val_bpb']:.4f}"
        if "val_accuracy" in best:
            out["… accuracy"] = f"{best['val_accuracy']:.4f}"
        out["… at step"] = f"{best['step']:,}"
    if speeds := run.values("tokens_per_s"):
        out["tokens/s, median"] = f"{statistics.median(speeds):,.0f}"
        out["… lowest to highest"] = f"{min(speeds):,.0f} to {max(speeds):,.0f}"
    if shares := run.values("mfu"):
        out["MFU, median"] = f"{statistics.median(shares):.1%}"
    for key, title in (("peak_gib", "peak of arrays"), ("process_gib", "peak of process")):
        if found := run.values(key):
            out[title] = f"{max(found):.3f} GiB"
    if seconds := run.values("seconds_total"):
        out["time in steps"] = f"{seconds[-1]:,.1f} s"
    if skipped := last.get("skipped"):
        out["skipped steps"] = f"{skipped:,}"
    return out


def _parameters(folder: RunFolder) -> int | None:
    """How many the newest checkpoint holds, from the header of its file."""
    saved = folder.newest()
    try:
        with open(saved / "model.safetensors", "rb") as file:  # type: ignore[operator]
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
    except (OSError, TypeError, ValueError, struct.error):
        return None  # none yet, or damaged: for those who load it to complain about
    return sum(math.prod(t["shape"]) for name, t in header.items() if name != "__metadata__")


def _curve(runs: Sequence[Run], key: str, title: str, unit: str, **options: Any) -> str:
    """One quantity of every run as a figure; nothing where no run has it."""
    found = [Line(run.name, run.points(key), i) for i, run in enumerate(runs)]
    if not any(line.points for line in found):
        return ""
    svg = lines(key.replace("_", "-"), f"{title}, {unit}", found, x_label=TOKENS, **options)
    return page.figure(svg, title, unit)


def _loss(runs: Sequence[Run]) -> str:
    return page.figures(
        _curve(runs, "train_loss", "Training loss", "nats"),
        _curve(runs, "val_loss", "Validation loss", "nats"),
        _curve(runs, "val_bpb", "Validation", "bits per byte"),
        _curve(runs, "val_accuracy", "Validation accuracy", "share"),
    )


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
