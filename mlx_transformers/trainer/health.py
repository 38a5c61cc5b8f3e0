"""Guards against training on, and saving, weights that are not finite."""

import mlx.core as mx
from mlx.utils import tree_flatten

from ..core.errors import RunError
from ..core.tree import Tree
from .loop import Metrics, Trainer
from .state import TrainState

MOST_IN_A_ROW = 50
"""Skipped steps in a row that end a run; loss scaling finds its scale in at most 24."""

CURE = "Lower optim.learning_rate or optim.weight_decay, or clip gradients (train.clip)"


class Health:
    """Ends a run whose weights are not finite, or whose steps are all skipped.

    It reads the metrics of the previous step, for which the loop has waited already, so that it
    costs nothing. Weights are checked after a skipped step and before a checkpoint: a weight that
    is NaN or infinite makes the gradients of every later step so.
    """

    def __init__(self) -> None:
        self.previous: Metrics | None = None
        self.in_a_row = 0

    def __call__(self, trainer: Trainer, metrics: Metrics) -> None:
        """Check the step before the one of these metrics.

        Raises:
            RunError: a weight is not finite, or too many steps in a row were skipped.
        """
        previous, self.previous = self.previous, metrics
        if previous is None:
            return
        if previous["finite"].item():
            self.in_a_row = 0
            return
        self.in_a_row += 1
        step = trainer.progress.step - 1
        check_weights(trainer.step.train_state, step)
        if self.in_a_row >= MOST_IN_A_ROW and not trainer.step.may_recover:
            raise RunError(
                f"The gradients of the last {self.in_a_row} steps, up to step {step}, were not "
                f"finite, so these steps were skipped. {CURE}, or train in float32 or bfloat16. "
                "Checkpoints saved before are intact."
            )


def check_weights(state: TrainState, step: int) -> None:
    """Check that the weights, and their EMA, are finite.

    Raises:
        RunError: they are not; names the first arrays.
    """
    trees = {"the model": state.model.trainable_parameters()}
    if state.ema is not None:
        trees["the EMA"] = state.ema.average
    for where, tree in trees.items():
        if names := _not_finite(tree):
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise RunError(
                f"The weights of {where} are not finite after step {step}: {names[0]}{more}. They "
                f"are not saved. {CURE}, and continue from the last checkpoint, which is intact."
            )


def check_outcome(trainer: Trainer, skipped: int) -> None:
    """Check that a run that reached its last step has trained in most of them.

    Raises:
        RunError: more than half of its steps were skipped.
    """
    step = trainer.progress.step
    if trainer.reason == "finished" and 2 * skipped > step and not trainer.step.may_recover:
        raise RunError(
            f"{skipped} of {step} steps were skipped, since their gradients were not finite: the "
            f"run is saved, but has hardly trained. {CURE}, or train in float32 or bfloat16."
        )


def _not_finite(tree: Tree) -> list[str]:
    """Return the names of the arrays with an element that is not finite."""
    flat = tree_flatten(tree)
    finite = [mx.isfinite(array).all() for _, array in flat]
    mx.eval(finite)
    return [name for (name, _), fine in zip(flat, finite, strict=True) if not fine.item()]
