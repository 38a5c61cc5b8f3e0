"""The loss that an objective returns: sums and weights, never means."""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple, get_args

import mlx.core as mx

Unit = Literal["token", "word", "text", "question", "pair"]
"""The unit that a weight of 1 counts; losses are reported per unit."""
UNITS: tuple[Unit, ...] = get_args(Unit)


class Best(NamedTuple):
    """The validation metric that ranks checkpoints, and the direction in which it improves."""

    metric: str = "val_loss"
    direction: Literal["min", "max"] = "min"

    def improves(self, value: float, best: float | None) -> bool:
        """Whether `value` is better than `best`; NaN never is."""
        if best is None:
            return value == value  # not NaN
        return value < best if self.direction == "min" else value > best


VAL_LOSS = Best()
"""The validation loss, by which checkpoints are ranked unless an objective names another metric."""


@dataclass
class Loss:
    """A summed loss, the weight to divide it by, and named sums that share that weight.

    `total` is what is differentiated: a scalar sum over valid tokens (nats), auxiliary losses
    included, already multiplied by `weight`. `parts` are sums for the log; the trainer divides
    all of them once, by the weight of the whole step, so that accumulating n microbatches
    equals one batch n times the size.
    """

    total: mx.array
    weight: mx.array
    parts: dict[str, mx.array] = field(default_factory=dict)
