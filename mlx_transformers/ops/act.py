"""Adaptive computation time: each token halts after as many steps as it asks for."""

from typing import NamedTuple

import mlx.core as mx


class Halting(NamedTuple):
    """The state of halting, `[B, T]` each, float32.

    Attributes:
        total: sum of the halting probabilities so far; 1 once a token has halted.
        remainder: `1 - total` before the step in which the token halted; 0 before it halts.
        updates: steps that have counted for the token.
    """

    total: mx.array
    remainder: mx.array
    updates: mx.array

    @classmethod
    def start(cls, shape: tuple[int, ...]) -> "Halting":
        """No token has halted."""
        zeros = mx.zeros(shape)
        return cls(zeros, zeros, zeros)

    def step(self, p: mx.array, threshold: float, last: bool = False) -> tuple[mx.array, "Halting"]:
        """The weight of a step's output, and the state after it.

        Graves 2016, equations 5 to 7; Dehghani et al. 2018 (Universal Transformers), appendix C. A
        token whose sum of probabilities passes the threshold halts, with what is missing to 1 as
        the weight of this step; a halted token has weight 0.

        Args:
            p: `[B, T]`, the halting probability of the step.
            threshold: sum above which a token halts, `1 - ε`.
            last: whether every token halts now, so that the weights sum to 1 (Graves). The codes of
                the Universal Transformer leave out what never crossed the threshold.
        """
        running = (self.total < 1.0).astype(mx.float32)
        halts = running if last else running * (self.total + p * running > threshold)
        continues = running - halts
        total = self.total + p * continues
        remainder = self.remainder + halts * (1.0 - total)
        weight = p * continues + halts * remainder
        return weight, Halting(
            total + halts * remainder, remainder, self.updates + continues + halts
        )

    def ponder(self) -> mx.array:
        """The ponder cost of each token, steps plus remainder; Graves 2016, equation 11."""
        return mx.stop_gradient(self.updates) + self.remainder
