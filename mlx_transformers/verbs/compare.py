"""Compares finished runs by the metric of their task, paired by seed: `mlxt compare`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..assembly.recipe import Recipe, load_recipe
from ..core.errors import RunError
from ..core.loss import Best
from ..recipe.show import diff
from ..runs.folder import RUNS, RunFolder, find
from ..score.seeds import Estimate, estimate, paired
from ..trainer.metrics import metric_title
from .ladder import BITS_PER_BYTE

SEED = "train.seed"


@dataclass(frozen=True)
class Group:
    """Runs of one recipe that differ by their seed alone.

    Attributes:
        name: name of the runs, without the seed.
        values: last value of the metric, by seed.
        tokens: training tokens of a run.
        mean: mean over seeds, with its interval.
        delta: paired difference to the first group; None for the first, or without common seeds.
    """

    name: str
    values: dict[int, float]
    tokens: int
    mean: Estimate
    delta: Estimate | None = None


@dataclass(frozen=True)
class Comparison:
    """Groups of runs, compared by one metric."""

    best: Best
    groups: list[Group]

    def verdicts(self) -> list[str]:
        """A sentence for each group but the first, or one that there is no other."""
        first, what = self.groups[0], metric_title(self.best.metric)
        if len(self.groups) == 1:
            return [f"{first.name} alone: name a run of another recipe to compare it with."]
        return [
            f"{group.name} against {first.name}: {self._verdict(group.delta, what)}."
            for group in self.groups[1:]
        ]

    def _verdict(self, delta: Estimate | None, what: str) -> str:
        if delta is None:
            return "no seed in common, so no paired difference"
        if delta.error is None:
            return f"{delta.mean:+.4f} {what} of one seed, which can't tell how much is chance"
        figures = f"{delta.mean:+.4f} ± {delta.error:.4f} {what}"
        if not delta.differs_from_zero:
            return f"{figures}: {delta.n} seeds can't tell the two apart"
        better = (delta.mean < 0) == (self.best.direction == "min")
        return f"{figures}: {'better' if better else 'worse'}"


@dataclass(frozen=True)
class _Run:
    folder: RunFolder
    recipe: Recipe
    last: dict[str, Any]


def compare(runs: Sequence[str | Path], root: Path = RUNS) -> Comparison:
    """Compare runs at their last evaluation; those that differ by their seed alone are a group.

    Args:
        runs: names below `root`, or folders.
        root: the folder of runs.

    Raises:
        RunError: there is no such run, one was not evaluated yet, or their metrics differ.
    """
    read = [_read(find(run, root)) for run in dict.fromkeys(map(str, runs))]
    best = _metric(read)
    gathered: list[list[_Run]] = []
    for run in read:
        same = next((group for group in gathered if _same(group[0].recipe, run.recipe)), None)
        if same is None:
            gathered.append([run])
        else:
            same.append(run)
    groups = [_group(members, best) for members in gathered]
    first = groups[0].values
    rest = [replace(group, delta=paired(group.values, first)) for group in groups[1:]]
    return Comparison(best, [groups[0], *rest])


def summary(folders: Sequence[RunFolder]) -> str:
    """One sentence on runs of one recipe with several seeds: mean and interval of the metric."""
    runs = [_read(folder) for folder in folders]
    best = _metric(runs)
    group = _group(runs, best)
    mean, what = group.mean, metric_title(best.metric)
    error = "" if mean.error is None else f" ± {mean.error:.4f} (95 % interval)"
    seeds = "1 seed" if mean.n == 1 else f"{mean.n} seeds"
    return f"Validation {what} of {seeds}: {mean.mean:.4f}{error}"


def _read(folder: RunFolder) -> _Run:
    evaluations = [r for r in folder.records() if r.get("val_loss") is not None]
    if not evaluations:
        raise RunError(f"{folder.path} has no evaluation yet, so there is nothing to compare.")
    return _Run(folder, load_recipe(folder.recipe), evaluations[-1])


def _metric(runs: Sequence[_Run]) -> Best:
    """Bits per byte where all runs have them, else the metric by which the objective ranks."""
    if all(BITS_PER_BYTE.metric in run.last for run in runs):
        return BITS_PER_BYTE
    best = runs[0].recipe.objective.best
    for run in runs:
        if (
            best.metric not in run.last
            or run.recipe.objective.unit != runs[0].recipe.objective.unit
        ):
            raise RunError(
                f"{run.folder.path} can't be compared with {runs[0].folder.path}: their tasks are "
                f"measured differently (objective '{run.recipe.objective.kind}' and "
                f"'{runs[0].recipe.objective.kind}')."
            )
    return best


def _same(a: Recipe, b: Recipe) -> bool:
    return all(path == SEED for path, *_ in diff(a, b))


def _group(runs: Sequence[_Run], best: Best) -> Group:
    values: dict[int, float] = {}
    for run in runs:
        seed = run.recipe.train.seed
        if seed in values:
            raise RunError(
                f"{run.folder.path} repeats another run: both have one recipe and seed {seed}. "
                "Leave one of them out."
            )
        values[seed] = float(run.last[best.metric])
    names = {re.sub(r"-seed\d+$", "", run.folder.name) for run in runs}
    name = names.pop() if len(names) == 1 else runs[0].folder.name
    return Group(name, values, runs[0].last["tokens"], estimate(list(values.values())))
