"""Lion: updates by the sign of a momentum, with half of Adam's memory."""

from typing import Literal

import mlx.optimizers as mlx_optim

from .adam import Betas
from .kinds import Schedule
from .low_precision_state import LowPrecisionState
from .optimizer import DecayingOptimizer
from .width import WidthTransfer


class Lion(LowPrecisionState, WidthTransfer, DecayingOptimizer):
    """Lion, "evolved sign momentum" (Chen et al. 2023, algorithm 2).

        c = b1 m + (1 - b1) g           m = b2 m + (1 - b2) g
        w = w (1 - rate · weight_decay) - rate · sign(c)

    Every weight moves by the full learning rate, so Lion needs one 3 to 10 times smaller than AdamW
    does, and a weight decay larger by the same factor (section 5 of the paper).
    """

    kind: Literal["lion"] = "lion"
    betas: Betas = (0.9, 0.99)
    """Decay rates of the update's direction (b1) and of the momentum (b2)."""

    def group(self, rate: Schedule, weight_decay: float) -> mlx_optim.Optimizer:
        lion = mlx_optim.Lion(rate, betas=list(self.betas), weight_decay=weight_decay)
        return self.pack_state(lion)
