"""Tunes one key of every rung of a ladder over the same values: `mlxt ladder --tune`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..assembly.checks import check_new
from ..core.errors import RecipeError, RunError
from ..core.loss import Best
from ..core.messages import LogFn
from ..profile.sweep import Axis, parse_axes
from ..runs.folder import RunFolder
from .rungs import Step, seeded, with_value

OPTION = "--tune"

TrainFn = Callable[[Step], RunFolder | None]
"""Trains a rung; None if a signal stopped the run."""


@dataclass(frozen=True)
class Tuned:
    """A rung at the best of the values that were tried.

    Attributes:
        step: the rung with this value.
        value: the value, as it was given.
        tried: the metric at each value that trained.
    """

    step: Step
    value: str
    tried: dict[str, float]


def parse_tuning(text: str) -> Axis:
    """Parse "KEY=VALUE,VALUE,...".

    Raises:
        RecipeError: it is malformed.
    """
    (axis,) = parse_axes([text], OPTION)
    return axis


def check_values(steps: Sequence[Step], axis: Axis) -> None:
    """Check every value in every rung, before the first is trained.

    Raises:
        RecipeError: a rung can't have one of them; names the rung.
    """
    for step in steps:
        for value in axis.values:
            try:
                check_new(with_value(step, axis.key, value).recipe)
            except RecipeError as error:
                raise RecipeError(f"{OPTION} {axis.key}={value} in {step.name}: {error}") from None


def tuned(
    step: Step,
    axis: Axis,
    seeds: Sequence[int],
    best: Best,
    train: TrainFn,
    say: LogFn,
) -> Tuned | None:
    """Train a rung at each value with the first seed, and choose the best by validation.

    A value at which training fails, as with too high a learning rate, is left out with a message.

    Returns:
        The rung at the best value; None if a signal stopped a run.

    Raises:
        RunError: training failed at every value.
    """
    results: dict[str, float] = {}
    for value in axis.values:
        [(_, run)] = seeded(with_value(step, axis.key, value), seeds[:1])
        try:
            folder = train(run)
        except RunError as error:
            say(f"{run.name} failed, so {axis.key}={value} is left out: {error}")
            continue
        if folder is None:
            return None
        results[value] = last_evaluation(folder)[best.metric]
    if not results:
        raise RunError(f"{step.name} could be trained at no value of {OPTION} {axis.key}.")
    choose = min if best.direction == "min" else max
    chosen = choose(results, key=lambda value: results[value])
    figures = ", ".join(f"{value}: {metric:.3f}" for value, metric in results.items())
    say(f"{step.name}: {axis.key}={chosen} is the best ({best.metric} by value: {figures}).")
    if len(axis.values) > 1 and chosen in (axis.values[0], axis.values[-1]):
        say(f"{chosen} is at the end of the list: values beyond it may be better.")
    return Tuned(with_value(step, axis.key, chosen), chosen, results)


def last_evaluation(folder: RunFolder) -> dict[str, Any]:
    """The record of a run's last evaluation."""
    return [record for record in folder.records() if record.get("val_loss") is not None][-1]
