"""Trains a grid of sizes and lengths, fits a scaling law, and predicts from it: `mlxt scale`.

Every size and length is a run of its own, whose schedule ends with it, as Hoffmann et al. 2022 ask
for. Finished runs are kept, so that a stopped grid continues. The law is fitted by their approach
3, with bootstrap intervals; approach 1 takes the best run within a budget.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import numpy as np

from ..assembly.model import build_model, draft_model
from ..assembly.recipe import load_recipe
from ..core.errors import RecipeError, RunError
from ..core.loss import VAL_LOSS
from ..core.messages import LogFn
from ..data.prepare import Progress as Preparing
from ..data.tokenizers.load import load_tokenizer
from ..layers.counts import count
from ..report.scaling import FILE, Scaling, Trained
from ..runs.folder import RUNS, RunFolder
from ..score import scaling_fit
from ..score.scaling_fit import LEAST_RUNS, Points
from .rungs import Step, study_folder, with_value, with_width
from .sweep import Candidate, check, train_point
from .train import train
from .tuning import TrainFn


@dataclass(frozen=True)
class Grid:
    """The runs of a scaling law.

    Attributes:
        widths: values of model.dim.
        steps: values of train.steps.
        held_out: a (width, steps) that is predicted first, and trained then; None: none.
    """

    widths: Sequence[int]
    steps: Sequence[int]
    held_out: tuple[int, int] | None = None


def scale(
    recipe: str | Path,
    grid: Grid,
    sets: Sequence[str] = (),
    *,
    flops: Sequence[float] = (),
    name: str | None = None,
    root: Path = RUNS,
    say: LogFn = print,
    progress: Preparing | None = None,
) -> tuple[Path, Scaling | None]:
    """Train a grid of sizes and lengths, and fit a law to it.

    Args:
        recipe: the recipe.
        grid: its sizes and lengths.
        sets: "path=value" strings, for every run.
        flops: budgets whose best size is computed; none takes ten and a hundred times the largest.
        name: the folder of the runs; None is "scale-" and the recipe's name.
        root: the folder of runs.
        say: receives messages about the runs.
        progress: called while data is prepared.

    Returns:
        The folder, and the fitted law; None if a signal stopped a run.

    Raises:
        RecipeError: the grid is too small, or a run is no recipe.
        RunError: a run would not fit in memory, or failed.
    """
    base = Step(Path(recipe).stem, load_recipe(recipe, sets))
    runs = candidates(base, grid)
    other = None if grid.held_out is None else _candidate(base, *grid.held_out)
    if other is not None:
        _check_held_out(other, runs)
    usual = f"scale-{base.name}"
    folder = study_folder(root, usual if name is None else name, "a scaling grid", FILE)

    def run(step: Step) -> RunFolder | None:
        result = train(step.recipe, name=step.name, resume="auto", root=folder, say=say,
                       progress=progress)  # fmt: skip
        mx.clear_cache()
        return result.folder if result.reason == "finished" else None

    trained = []
    for place, candidate in enumerate(runs, start=1):
        say(f"Run {place} of {len(runs)}: {candidate.step.name}")
        result = _trained(candidate, folder, run, say)
        if result is None:
            say(f"The grid stops here; the same command continues it in {folder}.")
            return folder, None
        trained.append(result)
    scaling = fitted(trained, flops)
    if other is not None and not _check_prediction(scaling, other, folder, run, say):
        return folder, None
    return folder, scaling


def _check_held_out(other: Candidate, runs: Sequence[Candidate]) -> None:
    """Check the run that is to be predicted before the grid is trained.

    Raises:
        RecipeError: it is one of the grid, or no recipe.
        RunError: it would not fit in memory.
    """
    if any(other.settings == run.settings for run in runs):
        size = "x".join(other.settings.values())
        raise RecipeError(
            f"--check {size} is a run of the grid, to which the law is fitted: a prediction is "
            "checked by a run outside of it."
        )
    check([other], option="--check ")


def _check_prediction(
    scaling: Scaling, other: Candidate, folder: Path, run: TrainFn, say: LogFn
) -> bool:
    """Predict a run, then train it; false if a signal stopped it."""
    size = parameters(other.step, RunFolder(folder / scaling.runs[0].run))
    prediction = scaling.predicted(size, tokens_of(other.step))
    say(f"Predicted for {other.step.name}: {prediction.sentence()}")
    result = _trained(other, folder, run, say)
    if result is None:
        return False
    scaling.checked = (prediction, result)
    return True


def candidates(base: Step, grid: Grid) -> list[Candidate]:
    """Return the runs of a grid, the cheapest first.

    Raises:
        RecipeError: there are too few, or one is no recipe.
    """
    for key, is_set in (("eval.patience", base.recipe.eval.patience), ("grow", base.recipe.grow)):
        if is_set:
            raise RecipeError(
                f"A scaling law is fitted to runs of one size that train to their end, and {key} "
                f"changes that: remove it (--set 'unset=[\"{key}\"]')."
            )
    n = len(set(grid.widths)) * len(set(grid.steps))
    if n < LEAST_RUNS or min(len(set(grid.widths)), len(set(grid.steps))) < 2:
        raise RecipeError(
            f"A scaling law has five numbers, and a grid of {n} runs can't determine them: give "
            f"two --widths and two --steps at least, and {LEAST_RUNS} runs together."
        )
    runs = [_candidate(base, dim, steps) for dim in grid.widths for steps in grid.steps]
    check(runs, option="")
    return sorted(runs, key=_cost)


def _candidate(base: Step, dim: int, steps: int) -> Candidate:
    step = with_value(with_width(base, dim), "train.steps", str(steps))
    return Candidate({"model.dim": str(dim), "train.steps": str(steps)}, step)


def _cost(candidate: Candidate) -> float:
    """Parameters times training tokens of a run, before its vocabulary is known."""
    return count(draft_model(candidate.step.recipe)).total * tokens_of(candidate.step)


def tokens_of(step: Step) -> float:
    """Training tokens of a run."""
    return float(step.recipe.train.tokens)


def parameters(step: Step, run: RunFolder) -> float:
    """Parameters of a recipe's model, with the vocabulary of a finished run of the grid."""
    tokenizer = load_tokenizer(run.tokenizer)
    return float(count(build_model(step.recipe, tokenizer, reads_text=False)).total)


def _trained(
    candidate: Candidate,
    folder: Path,
    run: TrainFn,
    say: LogFn,
) -> Trained | None:
    """Train a run of the grid; None if a signal stopped it.

    Raises:
        RunError: it failed.
    """
    if not train_point(candidate, (), VAL_LOSS, run, say):
        return None
    if candidate.error:
        raise RunError(
            f"{candidate.step.name} failed, and a law needs every run: {candidate.error}"
        )
    run_folder = RunFolder(folder / candidate.runs[0])
    [loss] = candidate.values.values()
    speeds = [r["tokens_per_s"] for r in run_folder.records() if r.get("tokens_per_s")]
    dim, steps = (int(value) for value in candidate.settings.values())
    speed = float(np.median(speeds)) if speeds else None
    size = parameters(candidate.step, run_folder)
    return Trained(run_folder.name, dim, steps, size, tokens_of(candidate.step), loss, speed)


def fitted(trained: Sequence[Trained], flops: Sequence[float] = ()) -> Scaling:
    """Fit the law of finished runs.

    Raises:
        RunError: they can't tell a law.
    """
    columns = zip(*((run.parameters, run.tokens, run.loss) for run in trained), strict=True)
    points = Points(*(np.asarray(column, np.float64) for column in columns))
    try:
        fit = scaling_fit.fit(points)
    except ValueError as error:
        raise RunError(str(error)) from None
    fits = scaling_fit.bootstrap(points, fit)
    largest = float((6 * points.parameters * points.tokens).max())
    return Scaling(list(trained), points, fit, fits, list(flops or (10 * largest, 100 * largest)))
