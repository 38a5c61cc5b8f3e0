"""Writes the report of a run, or of several on the same axes: one offline HTML file."""

import tomllib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

from ..core.errors import RunError
from ..core.parse import parse_toml
from ..profile.sweep import Axis, Cell, read_sweep
from ..recipe.merge import dotted, leaves
from ..recipe.toml import toml_value
from ..runs.folder import RUNS, LogWarning, RunFolder, find
from . import page
from . import table as ladder
from .certificates import certificate
from .costs import cost_rows
from .curves import MEMORY, by_seed, layers, loss, memory, noise, speed
from .figure import N_SERIES
from .plans import parts, phases, plan_rows
from .profiles import sweep_maps, sweep_table
from .run import Run, headline, read, summary
from .table import Rung

Sweep = tuple[list[Axis], list[Cell]]
FEW = 3
"""Runs whose names fit a title, and whose last samples are shown without a click."""


def report(
    runs: Sequence[str | Path],
    out: Path | None = None,
    root: Path = RUNS,
    sweep: Path | None = None,
    rungs: Sequence[Rung] = (),
) -> Path:
    """Write the report of runs, given by name or folder; none means the newest.

    Args:
        runs: names below `root`, or folders.
        out: the file; None is report.html in the folder of one run, or for several one in `root`
            that is named after them.
        root: the folder of runs.
        sweep: a file with a sweep of their recipe, to be shown beside them.
        rungs: the ladder that the runs belong to, whose table comes first.

    Raises:
        RunError: there is no such run or sweep, a run has no record yet, matplotlib is not
            installed, or `out` is a file that is not a report.
    """
    folders = [find(run, root) for run in runs] or [find(None, root)]
    axes_and_cells = None if sweep is None else read_sweep(sweep)
    return write([read(folder) for folder in folders], out, root, axes_and_cells, rungs)


def write(
    runs: Sequence[Run],
    out: Path | None = None,
    root: Path = RUNS,
    sweep: Sweep | None = None,
    rungs: Sequence[Rung] = (),
) -> Path:
    """Write the report of runs that were read; the arguments are those of `report`."""
    runs = _named_apart(runs)
    if out is None and len(runs) == 1:
        out = runs[0].folder.path / "report.html"
    return _page(runs, sweep, rungs).write(
        out or root / f"report-{'-'.join(r.name for r in runs)[:80]}.html"
    )


def written(folder: RunFolder) -> str:
    """Write the report of a run that ended; returns a sentence with its path, or the reason why
    there is none."""
    try:
        return f"Report: {write([read(folder)])}"
    except Exception as error:  # whatever it is, a missing report must not fail the run
        return f"Without a report: {error}"


def _named_apart(runs: Sequence[Run]) -> list[Run]:
    """Name runs by their whole path where two have the same name."""
    names = [run.name for run in runs]
    return [
        replace(run, name=str(run.folder.path)) if names.count(run.name) > 1 else run
        for run in runs
    ]


def _page(runs: Sequence[Run], sweep: Sweep | None, rungs: Sequence[Rung]) -> page.Page:
    names = [run.name for run in runs]
    few = len(runs) <= FEW
    title = " · ".join(names) if few else f"{len(runs)} runs"
    last = max(run.folder.log.stat().st_mtime for run in runs)
    when = datetime.fromtimestamp(last).astimezone().strftime("%Y-%m-%d %H:%M %Z")
    if rungs:
        title = f"Ladder from {rungs[0].recipe} to {rungs[-1].recipe}"
        leads = [escape(sentence) for sentence in ladder.verdicts(rungs)]
    elif len(runs) == 1:
        leads = [escape(headline(runs[0]))]
    else:
        leads = [
            f"{page.swatch(run.name, i % N_SERIES)}: {escape(headline(run))}"
            for i, group in enumerate(by_seed(runs).values())
            for run in group
        ]
    leads.append(f'<span class="soft">Last record of {escape(when)}.</span>')
    out = page.Page(title, *leads)
    runs = [_with_readable_plan(run) for run in runs]
    if rungs:
        cells = [list(map(escape, row)) for row in ladder.cells(rungs)]
        out.add("ladder", "Ladder", page.table(ladder.titles(rungs), cells))
    out.add("samples", "Samples", *(_samples(run, len(runs) == 1, few) for run in runs))
    out.add("loss", "Loss and validation", loss(runs))
    out.add("layers", "Layers", layers(runs))
    out.add("summary", "Summary", _facts(names, [summary(run) | cost_rows(run) for run in runs]))
    out.add("speed", "Speed and learning rate", speed(runs))
    out.add("noise", "Gradient noise scale", noise(runs))
    out.add("memory", "Memory", memory(runs))
    out.add("plan", "Plan against actual", _plan(runs))
    out.add("certificate", "Certificate", *(_certificate(run, len(runs) == 1) for run in runs))
    if sweep is not None:
        out.add("sweep", "Sweep", sweep_maps(*sweep), sweep_table(*sweep))
    if len(runs) > 1:
        out.add("differences", "Recipe differences", _differences(runs))
    out.add("recipe", "Recipe", *(_recipe(run, len(runs) == 1) for run in runs))
    out.add("environment", "Environment", _environment(runs))
    out.add("command", "Command", *(_command(run, len(runs) > 1) for run in runs))
    return out


def _certificate(run: Run, alone: bool) -> str:
    html = certificate(run.folder)
    return html if alone or not html else f"<p>{escape(run.name)}</p>{html}"


def _with_readable_plan(run: Run) -> Run:
    """Return a run without its plan, with a warning, where plan.json holds something else."""
    if not run.plan:
        return run
    try:
        _plan([run])
        cost_rows(run)
    except RunError:  # no plotting library
        raise
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        place = run.folder.path / "plan.json"
        warning = f"{place} is no plan ({error!r}): the report leaves it out."
        warnings.warn(warning, LogWarning, stacklevel=2)
        return replace(run, plan={})
    return run


def _plan(runs: Sequence[Run]) -> str:
    """Compare planned with measured memory, for runs that have a plan.json."""
    planned = [run for run in runs if run.plan]
    if not planned:
        return ""
    rows = [
        plan_rows(r.plan, {k: max(r.values(k)) for k in MEMORY if r.values(k)}) for r in planned
    ]
    table = _facts([run.name for run in planned], rows)
    return table + (parts(runs[0].plan) + phases(runs[0].plan) if len(runs) == 1 else "")


def _samples(run: Run, alone: bool, unfolded: bool) -> str:
    """Show a run's samples, the newest first; `unfolded` shows that one without a click."""
    with_sample = [r for r in run.records if r.get("sample")]
    blocks = [
        page.folded(
            f"Step {r['step']:,}" if alone else f"{run.name}, step {r['step']:,}",
            page.text(r["sample"], wrap=True),
            unfolded=unfolded and r is with_sample[-1],
        )
        for r in reversed(with_sample)
    ]
    return "".join(blocks)


def _recipe(run: Run, alone: bool) -> str:
    """Show the run's recipe.toml: each key with the file that set it."""
    return page.folded(
        f"{run.name}: every key and what set it", page.text(run.recipe), unfolded=alone
    )


def _parsed(run: Run) -> dict[str, Any]:
    try:
        return parse_toml(run.recipe, str(run.folder.recipe))
    except tomllib.TOMLDecodeError as error:
        raise RunError(f"{run.folder.recipe} is damaged: {error}.") from None


def _differences(runs: Sequence[Run]) -> str:
    """Table of the keys in which the recipes differ."""
    tables = [{dotted(p): v for p, v in leaves(_parsed(run))} for run in runs]
    paths = sorted({path for table in tables for path in table})
    rows = []
    for path in paths:
        values = [toml_value(table[path]) if path in table else "" for table in tables]
        if len(set(values)) > 1:
            rows.append([escape(cell) for cell in (path, *values)])
    if not rows:
        return "<p>Their recipes say the same.</p>"
    return page.table(["key", *(escape(run.name) for run in runs)], rows)


def _environment(runs: Sequence[Run]) -> str:
    environments = [
        {k: _plain(v) for k, v in run.environment.items() if k != "command" and v not in (None, [])}
        for run in runs
    ]
    if all(facts == environments[0] for facts in environments):
        return _facts([""], environments[:1])
    return _facts([run.name for run in runs], environments)


def _plain(value: object) -> str:
    if isinstance(value, list):
        return "\n".join(map(str, value))
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _command(run: Run, with_name: bool) -> str:
    title = f"<p>{escape(run.name)}</p>" if with_name else ""
    return title + page.text(run.environment.get("command") or "not kept", wrap=True)


def _facts(names: Sequence[str], tables: Sequence[Mapping[str, str]]) -> str:
    """Table with facts as rows and runs as columns."""
    keys = dict.fromkeys(key for table in tables for key in table)
    rows = [
        [escape(key.replace("_", " ")), *(escape(table.get(key, "")) for table in tables)]
        for key in keys
    ]
    return page.table(["", *map(escape, names)] if len(names) > 1 else ["", ""], rows)
