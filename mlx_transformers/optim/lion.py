"""Lion: only the sign of a momentum, half of Adam's memory."""

from typing import Literal

import mlx.optimizers as mlx_optim

from .adam import Betas
from .moments import Moments
from .optimizer import DecayingOptimizer
from .schedules import Schedule


class Lion(Moments, DecayingOptimizer):
    """Lion, "evolved sign momentum" (Chen et al. 2023, algorithm 2).

        c = b1 m + (1 - b1) g           m = b2 m + (1 - b2) g
        w = w (1 - rate · weight_decay) - rate · sign(c)

    Every weight moves by the full rate, so Lion wants a rate 3 to 10 times smaller than AdamW,
    and a weight decay as much larger (section 5 of the paper).
    """

    kind: Literal["lion"] = "lion"
    betas: Betas = (0.9, 0.99)
    """How much of the past the direction (b1) and the momentum (b2) keep."""

    def group(self, rate: Schedule, weight_decay: float) -> mlx_optim.Optimizer:
        lion = mlx_optim.Lion(rate, betas=list(self.betas), weight_decay=weight_decay)
        return self.stored(lion)
