"""Hyperparameter search: trains a recipe at many settings and seeds, and compares them.

Over `optim.learning_rate` it is the learning-rate finder. `mlxt sweep` is the command.

Every point is a run (one per seed) in one folder, so that a stopped sweep continues: finished runs
are kept. Points whose runs fail are listed with the reason.
"""

import itertools
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import mlx.core as mx

from ..assembly.checks import check_new
from ..assembly.model import draft_model
from ..assembly.plan import check_fits, plan
from ..assembly.recipe import load_recipe
from ..core.errors import MlxtError, RecipeError, RunError
from ..core.loss import Best
from ..core.messages import LogFn
from ..data.prepare import Progress as Preparing
from ..profile.sweep import Axis, parse_axes
from ..report.sweep import FILE, Point, Sweep
from ..runs.folder import RUNS, RunFolder
from ..score.seeds import estimate
from .ladder import metric_of
from .rungs import Step, seeded, study_folder, with_value
from .train import train
from .tuning import TrainFn, last_evaluation

OPTION = "--over"
Search = Literal["grid", "random", "halving"]


@dataclass(frozen=True)
class Settings:
    """How a sweep chooses its points.

    Attributes:
        search: `grid` trains every combination; `random` draws `samples` of them, and numbers of a
            range "1e-4..1e-2" evenly in their logarithm; `halving` trains all of them (or
            `samples`) briefly, keeps the best share `1 / keep`, and so on to the full length.
        samples: number of points of a random search.
        keep: the share that successive halving keeps is one in so many (Jamieson & Talwalkar 2016).
        rounds: rounds of successive halving, the last of full length.
        seed: of the random search.
    """

    search: Search = "grid"
    samples: int | None = None
    keep: int = 2
    rounds: int = 3
    seed: int = 0


@dataclass
class Candidate:
    """A point while the sweep runs: its setting, its recipe, and the metric by seed."""

    settings: dict[str, str]
    step: Step
    values: dict[int, float] = field(default_factory=dict)
    runs: list[str] = field(default_factory=list)
    error: str | None = None


def sweep(
    recipe: str | Path,
    over: Sequence[str],
    sets: Sequence[str] = (),
    *,
    seeds: Sequence[int] = (),
    settings: Settings = Settings(),
    name: str | None = None,
    root: Path = RUNS,
    say: LogFn = print,
    progress: Preparing | None = None,
) -> tuple[Path, Sweep | None]:
    """Train a recipe at the settings that `over` spans; returns the folder and the result.

    Args:
        recipe: the recipe.
        over: "path=value,value,..." strings, an axis each.
        sets: "path=value" strings, for every point.
        seeds: values of train.seed, a run each; none takes the recipe's.
        settings: how points are chosen.
        name: the folder of the runs; None is "sweep-" and the recipe's name.
        root: the folder of runs.
        say: receives messages about the runs.
        progress: called while data is prepared.

    Returns None for the result if a signal stopped a run.

    Raises:
        RecipeError: an axis is malformed, or a point is no recipe.
        RunError: a point would not fit in memory, or every point failed.
    """
    base = Step(Path(recipe).stem, load_recipe(recipe, sets))
    points = candidates(base, parse_axes(over, OPTION), settings)
    check(points)
    best = metric_of([point.step.recipe for point in points])
    folder = study_folder(root, f"sweep-{base.name}" if name is None else name, "a sweep", FILE)

    def run(step: Step) -> RunFolder | None:
        result = train(step.recipe, name=step.name, resume="auto", root=folder, say=say,
                       progress=progress)  # fmt: skip
        mx.clear_cache()
        done = result.reason == "finished" or result.reason.startswith("stopped early")
        return result.folder if done else None

    rounds = halved(base, points, settings) if settings.search == "halving" else [None]
    for number, length in enumerate(rounds, start=1):
        if length is not None:
            points = [_shortened(point, length) for point in points]
            say(f"Round {number} of {len(rounds)}: {len(points)} points of {length} steps.")
        if not _train_all(points, seeds, best, run, say):
            say(f"The sweep stops here; the same command continues it in {folder}.")
            return folder, None
        if number < len(rounds):
            points = _best(points, best, math.ceil(len(points) / settings.keep))
    if all(point.error for point in points):
        raise RunError(f"Every point of the sweep failed; the first one: {points[0].error}")
    return folder, Sweep(best.metric, best.direction, [_point(point) for point in points])


def _train_all(
    points: Sequence[Candidate],
    seeds: Sequence[int],
    best: Best,
    run: TrainFn,
    say: LogFn,
) -> bool:
    """Train every point of a round; false if a signal stopped one."""
    for place, point in enumerate(points, start=1):
        say(f"Point {place} of {len(points)}: {point.step.name}")
        if not train_point(point, seeds, best, run, say):
            return False
    return True


def candidates(base: Step, axes: Sequence[Axis], settings: Settings) -> list[Candidate]:
    """Return the points of a search, in the order in which they are trained.

    Raises:
        RecipeError: a value is none of its key, or a range stands in a grid.
    """
    if not axes:
        raise RecipeError(f"A sweep needs an axis: {OPTION} optim.learning_rate=1e-3,3e-3.")
    drawn = random.Random(settings.seed)
    keys = [axis.key for axis in axes]
    ranged = [axis.key for axis in axes for value in axis.values if ".." in value]
    if settings.search == "random":
        if settings.samples is None:
            raise RecipeError("A random search needs a number of points: --samples 8.")
        rows = _drawn(axes, settings.samples, drawn)
    elif ranged:
        raise RecipeError(
            f"{OPTION} {ranged[0]}: a range has no end of points. Give values, or add "
            "--search random --samples 8."
        )
    else:
        rows = list(itertools.product(*(axis.values for axis in axes)))
        if settings.samples is not None and settings.samples < len(rows):
            rows = drawn.sample(rows, settings.samples)
    points, seen = list[Candidate](), dict[str, dict[str, str]]()
    for row in rows:
        step = base
        for key, value in zip(keys, row, strict=True):
            try:
                step = with_value(step, key, value)
            except RecipeError as error:
                raise RecipeError(f"{OPTION} {key}={value}: {error}") from None
        settings_of_row = dict(zip(keys, row, strict=True))
        same = seen.setdefault(repr(step.recipe.model_dump()), settings_of_row)
        if same is not settings_of_row:
            raise RecipeError(
                f"{OPTION}: {_shown(same)} and {_shown(settings_of_row)} are one recipe. Give each "
                "value once."
            )
        points.append(Candidate(settings_of_row, step))
    return points


def _drawn(axes: Sequence[Axis], n: int, drawn: random.Random) -> list[tuple[str, ...]]:
    """Draw n different points; fewer where the axes have no more."""
    rows: dict[tuple[str, ...], None] = {}
    for _ in range(100 * n):
        rows[tuple(_value(drawn.choice(axis.values), drawn) for axis in axes)] = None
        if len(rows) == n:
            break
    return list(rows)


def _value(text: str, drawn: random.Random) -> str:
    """A value as it is, or a number drawn from "LOW..HIGH", evenly in its logarithm."""
    low, dots, high = text.partition("..")
    if not dots:
        return text
    try:
        ends = float(low), float(high)
    except ValueError:
        raise RecipeError(f"'{text}' is no range of numbers: write it as 1e-4..1e-2.") from None
    if not 0 < ends[0] < ends[1]:
        raise RecipeError(f"'{text}' must rise from a number above 0, as in 1e-4..1e-2.")
    if low.isdecimal() and high.isdecimal():
        return str(round(math.exp(drawn.uniform(*map(math.log, ends)))))
    return f"{math.exp(drawn.uniform(*map(math.log, ends))):.3g}"


def check(points: Sequence[Candidate], option: str = f"{OPTION} ") -> None:
    """Check every point's recipe and its memory before the first is trained.

    Args:
        points: the points.
        option: the option that gave the keys, before them in errors.

    Raises:
        RecipeError: a point is no recipe that can be trained; names it.
        RunError: a point would not fit in memory; names it.
    """
    for point in points:
        where = _shown(point.settings)
        try:
            check_new(point.step.recipe)
            check_fits(plan(point.step.recipe, draft_model(point.step.recipe)))
        except MlxtError as error:
            raise type(error)(f"{option}{where}: {error}") from None


def _shown(settings: dict[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in settings.items())


def halved(base: Step, points: Sequence[Candidate], settings: Settings) -> list[int]:
    """Return the steps of every round of successive halving.

    Raises:
        RecipeError: the shortest round would have no step, or steps are an axis.
    """
    if any("train.steps" in point.settings for point in points):
        raise RecipeError("Successive halving sets train.steps itself: sweep another key.")
    full = base.recipe.train.steps
    lengths = [full // settings.keep**back for back in range(settings.rounds - 1, -1, -1)]
    if lengths[0] < 1:
        raise RecipeError(
            f"{settings.rounds} rounds cut {full} steps down to none: take fewer --rounds."
        )
    return lengths


def _shortened(point: Candidate, steps: int) -> Candidate:
    """The same point over so many steps, not trained yet."""
    step = with_value(Step(point.step.name.partition("-steps-")[0], point.step.recipe),
                      "train.steps", str(steps))  # fmt: skip
    return Candidate(point.settings, step)


def train_point(
    point: Candidate,
    seeds: Sequence[int],
    best: Best,
    run: TrainFn,
    say: LogFn,
) -> bool:
    """Train a point's seeds; false if a signal stopped one. A failure is the point's error."""
    for seed, step in seeded(point.step, seeds):
        try:
            folder = run(step)
        except RunError as error:
            say(f"{step.name} failed: {error}")
            point.error = str(error)
            return True
        if folder is None:
            return False
        point.values[seed] = float(last_evaluation(folder)[best.metric])
        point.runs.append(folder.name)
    return True


def _best(points: Sequence[Candidate], best: Best, n: int) -> list[Candidate]:
    """The n best points that trained."""
    sign = 1 if best.direction == "min" else -1
    ranked = sorted(
        (point for point in points if point.values and not point.error),
        key=lambda point: sign * sum(point.values.values()) / len(point.values),
    )
    return ranked[:n] or list(points[:1])


def _point(point: Candidate) -> Point:
    if not point.values or point.error:
        return Point(point.settings, point.values, None, None, point.runs, point.error)
    mean = estimate(list(point.values.values()))
    return Point(point.settings, point.values, mean.mean, mean.error, point.runs)
