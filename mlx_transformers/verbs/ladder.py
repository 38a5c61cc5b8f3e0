"""Trains recipes that build on each other on one budget: `mlxt ladder`.

The rungs are the chain of one recipe, from where its task begins, or a list of recipes. Each takes
the data and the budget of the last, and is compared with the rung before in the task's own metric.
"""

import copy
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import mlx.core as mx

from ..assembly.checks import check_new
from ..assembly.recipe import Recipe, load_recipe
from ..assembly.saved import load
from ..core.errors import RecipeError, unknown
from ..core.loss import Best
from ..core.messages import LogFn
from ..data.prepare import Progress as Preparing
from ..decode.cache_size import cache_bytes_per_token
from ..layers.counts import count
from ..models.model import causal_decoder
from ..profile.decoding import decode_speed
from ..profile.sweep import Axis
from ..recipe.load import chain, find
from ..report.table import Rung
from ..runs.folder import RUNS, RunFolder
from ..score.seeds import estimate, paired
from .rungs import Step, seeded, study_folder, tables, with_tables
from .train import train
from .tuning import TrainFn, Tuned, check_values, last_evaluation, parse_tuning, tuned

BUDGET = ("steps", "batch_size", "accumulate", "microbatch", "seq_len", "seed")
"""Keys of [train] that every rung takes from the last, as it takes [data]."""
BITS_PER_BYTE = Best("val_bpb", "min")
"""The metric of recipes that predict every token of a text: it compares across tokenizers."""


class Ladder(NamedTuple):
    """A ladder: the folder of its runs, its finished rungs, and whether these are all."""

    folder: Path
    rungs: list[Rung]
    complete: bool = True


def climb(
    recipe: str | Path | Sequence[str | Path],
    sets: Sequence[str] = (),
    *,
    first: str | None = None,
    name: str | None = None,
    seeds: Sequence[int] = (),
    tune: str | None = None,
    root: Path = RUNS,
    say: LogFn = print,
    progress: Preparing | None = None,
) -> Ladder:
    """Train the rungs of a ladder; each is a run in `root/name/`, or one run per seed.

    Finished runs are kept and stopped ones resumed: calling again continues the ladder.

    Args:
        recipe: the last rung, whose chain makes the others; or a list with every rung.
        sets: "path=value" strings, for every rung.
        first: the recipe of the chain to begin with; None begins where the last one's task does.
        name: the folder of the ladder's runs; None is "ladder-" and the last recipe's name.
        seeds: values of train.seed, a run each; none takes the seed of the last recipe.
        tune: "path=value,value,...": every rung is trained at each of these values with the first
            seed, and takes the best.
        root: the folder of runs.
        say: receives messages about the runs.
        progress: called while data is prepared.

    Raises:
        RecipeError: `first` is not in the chain, or recipes of a list can't be compared.
        RunError: the name is none of a folder, or the folder holds something else.
        MlxtError: as `verbs.train.train`.
    """
    steps = _steps(recipe, sets, first, say)
    best = metric_of([step.recipe for step in steps])
    usual = f"ladder-{steps[-1].name}"
    folder = study_folder(root, usual if name is None else name, "a ladder", "ladder.json")
    axis = None if tune is None else parse_tuning(tune)
    if axis is not None:
        check_values(steps, axis)

    def run(step: Step) -> RunFolder | None:
        result = train(step.recipe, name=step.name, resume="auto", root=folder, say=say,
                       progress=progress)  # fmt: skip
        mx.clear_cache()
        ended = result.reason == "finished" or result.reason.startswith("stopped early")
        return result.folder if ended else None

    rungs: list[Rung] = []
    before: dict[int, float] = {}
    for number, step in enumerate(steps, start=1):
        say(f"Rung {number} of {len(steps)}: {step.name}")
        trained = _train(step, axis, seeds, best, run, say)
        if trained is None:
            say(f"The ladder stops here; the same command continues it in {folder}.")
            break
        rung, before = _measure(step.name, trained, best, before)
        rungs.append(rung)
        mx.clear_cache()
    return Ladder(folder, rungs, len(rungs) == len(steps))


class TrainedRung(NamedTuple):
    """The runs of a rung by seed, and the value that was tuned."""

    runs: dict[int, RunFolder]
    tuned: Tuned | None


def _train(
    step: Step,
    axis: Axis | None,
    seeds: Sequence[int],
    best: Best,
    run: TrainFn,
    say: LogFn,
) -> TrainedRung | None:
    """Train a rung once per seed, at the best value of `axis`; None if a signal stopped a run."""
    tuning = None
    if axis is not None:
        tuning = tuned(step, axis, seeds, best, run, say)
        if tuning is None:
            return None
        step = tuning.step
    runs: dict[int, RunFolder] = {}
    for seed, seeded_step in seeded(step, seeds):
        trained = run(seeded_step)
        if trained is None:
            return None
        runs[seed] = trained
    return TrainedRung(runs, tuning)


def _steps(
    recipe: str | Path | Sequence[str | Path],
    sets: Sequence[str],
    first: str | None,
    say: LogFn,
) -> list[Step]:
    """The rungs, the lowest first."""
    if isinstance(recipe, str | Path):
        files = _from(first, chain(recipe))
    else:
        files = [find(rung_name) for rung_name in recipe]
        names = [file.stem for file in files]
        if twice := [name for name in names if names.count(name) > 1]:
            raise RecipeError(f"A ladder has one rung for each name, and two are '{twice[0]}'.")
        if first is not None:
            raise RecipeError("--from chooses a rung of a chain: with a list, leave recipes out.")
    listed = not isinstance(recipe, str | Path)
    leaf = load_recipe(files[-1], sets)
    steps = [Step(files[-1].stem, leaf)]
    for file in reversed(files[:-1]):
        rung = _comparable(file, sets, leaf, steps[0].recipe)
        if rung is None:
            message = f"{file.stem} can't be compared with {files[-1].stem}: it trains another task"
            if listed or first is not None:
                raise RecipeError(f"{message}.")
            say(f"{message}, so the ladder begins at {steps[0].name}.")
            break
        steps.insert(0, Step(file.stem, rung))
    return steps


def _from(first: str | None, files: list[Path]) -> list[Path]:
    if first is None:
        return files
    names = [path.stem for path in files]
    if Path(first).stem not in names:
        raise RecipeError(unknown("first rung", first, names))
    return files[names.index(Path(first).stem) :]


def _comparable(file: Path, sets: Sequence[str], leaf: Recipe, above: Recipe) -> Recipe | None:
    """A recipe on the data and budget of `leaf`, or None if its task is another.

    If its objective can't use the leaf's batches, it takes that of the rung above.
    """
    recipe = load_recipe(file)
    if not recipe.model.tasks & leaf.objective.tasks:
        return None
    rung = load_recipe(file, sets)
    for objective in (None, above):
        try:
            comparable = _on_budget(rung, leaf, objective)
            check_new(comparable)
        except RecipeError:
            continue
        if comparable.objective.unit == leaf.objective.unit:
            return comparable
    return None


def _on_budget(rung: Recipe, leaf: Recipe, objective: Recipe | None = None) -> Recipe:
    """A rung with the data, steps, batch and seed of the ladder's last recipe.

    Args:
        rung: the recipe.
        leaf: the last recipe.
        objective: the recipe whose objective it takes; None keeps its own.

    Raises:
        RecipeError: they don't go together.
    """
    ours, theirs = tables(rung), tables(leaf)
    data = copy.deepcopy(ours)
    data["data"] = copy.deepcopy(theirs["data"])
    if rung.data.batch.covers_text and leaf.data.batch.covers_text:
        # Bits per byte compare whatever a row is: a recurrent model reads on, others don't.
        data["data"].pop("batch", None)
        if "batch" in ours["data"]:
            data["data"]["batch"] = copy.deepcopy(ours["data"]["batch"])
    if objective is not None:
        data["objective"] = copy.deepcopy(tables(objective)["objective"])
    for key in BUDGET:
        data["train"].pop(key, None)
        if key in theirs["train"]:
            data["train"][key] = theirs["train"][key]
    return with_tables(rung, data)


def metric_of(recipes: Sequence[Recipe]) -> Best:
    """The metric that compares recipes: bits per byte where all cover their text."""
    if all(recipe.source.covers_text(recipe.data.batch) for recipe in recipes):
        return BITS_PER_BYTE
    return recipes[-1].objective.best


def _measure(
    recipe: str, trained: TrainedRung, best: Best, before: dict[int, float]
) -> tuple[Rung, dict[int, float]]:
    """Measure the runs of a rung, and compare them with those of the rung before, by seed."""
    runs, tuning = trained
    logs = {seed: list(run.records()) for seed, run in runs.items()}
    last = {seed: last_evaluation(run) for seed, run in runs.items()}
    values = {seed: float(record[best.metric]) for seed, record in last.items()}
    bits = [record["val_bpb"] for record in last.values() if "val_bpb" in record]
    reports = [[r for r in log if "tokens_per_s" in r] for log in logs.values()]
    model, _ = load(next(iter(runs.values())).path)
    counts = count(model)
    decoder = causal_decoder(model)
    value, delta = estimate(list(values.values())), paired(values, before)
    difference = None if delta is None else delta.mean
    rung = Rung(
        recipe=recipe,
        parameters=counts.total,
        active_parameters=counts.active,
        tokens=next(iter(last.values()))["tokens"],
        val_loss=statistics.fmean(record["val_loss"] for record in last.values()),
        val_bpb=statistics.fmean(bits) if bits else None,
        delta_bpb=difference if best == BITS_PER_BYTE else None,
        tokens_per_s=statistics.median(r["tokens_per_s"] for log in reports for r in log),
        peak_gib=max(r["peak_gib"] for log in reports for r in log),
        decode_tokens_per_s=decode_speed(decoder) if decoder else None,
        cache_bytes_per_token=cache_bytes_per_token(decoder) if decoder else None,
        seconds=statistics.fmean(log[-1]["seconds_total"] for log in reports),
        metric=best.metric,
        value=value.mean,
        error=value.error,
        delta=difference,
        delta_error=None if delta is None else delta.error,
        seeds=tuple(runs),
        lower_is_better=best.direction == "min",
        runs=tuple(run.name for run in runs.values()),
        tuned=tuning.value if tuning else None,
        tried=tuning.tried if tuning else {},
    )
    return rung, values
