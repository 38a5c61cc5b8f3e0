"""Opens the batches of a built recipe: for training, for evaluation, for tasks."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from ..data.stream import EvalStream
from ..trainer.source import Batch, Feed, RunParts, Stream
from .build import Built
from .curriculum_order import curriculum_order


def training_feed(built: Built, cursor: Mapping[str, Any] | None = None) -> Feed:
    """Open the training batches of this rank at `cursor`, or at the first batch.

    Raises:
        DataError: there is not enough data, or the cursor belongs to other data.
    """
    parts, curriculum = run_parts(built), built.recipe.curriculum
    if curriculum is not None:
        parts = replace(parts, curriculum=(curriculum, curriculum_order(built, curriculum)))
    return built.recipe.source.feed(parts, cursor or {})


def held_out_batches(built: Built, batches: int | None = None) -> Iterable[Batch]:
    """Open the batches of an evaluation for this rank; None takes all there are.

    Raises:
        DataError: there is nothing to evaluate on.
    """
    return built.recipe.source.held_out(run_parts(built), batches)


def mixed_batches(built: Built, batches: int | None = None) -> dict[str, Iterable[Batch]]:
    """Open the batches of an evaluation of each other text of a mixture, by name.

    Raises:
        DataError: the validation split of one is empty.
    """
    parts = run_parts(built)
    return {
        name: built.recipe.source.held_out(replace(parts, data=data), batches)
        for name, data in built.data.mixed.items()
    }


def validation_stream(built: Built, batches: int | None = None) -> EvalStream:
    """Open the validation split of the data, whatever the source of the training batches.

    Args:
        built: the recipe's parts.
        batches: number of batches, spread evenly over the split; None takes the whole split.

    Raises:
        DataError: the split is empty.
    """
    return Stream().held_out(run_parts(built), batches)


def run_parts(built: Built) -> RunParts:
    """The parts of a built recipe that a batch source may use."""
    recipe = built.recipe
    return RunParts(
        data=built.data,
        settings=recipe.data,
        train=recipe.train,
        eval_batch_size=recipe.eval.batch_size or recipe.train.batch_size,
        models=built.step.loss.roles,
        ranks=built.step.train_state.ranks,
        frozen=built.frozen,
        forward=built.step.loss,
    )
