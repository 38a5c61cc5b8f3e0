"""Scheduled sampling: training a decoder on tokens that it samples itself."""

from collections.abc import Callable
from typing import Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field

from ..core.context import Context
from ..recipe.config import Config

STEEP = 12.0
"""Range of the logistic curve over a run: from -STEEP/2 to STEEP/2, that is 0.002 to 0.998."""


class ScheduledSampling(Config):
    """Scheduled sampling: some decoder inputs are tokens sampled from the model itself.

    Bengio et al. 2015, section 2.3. Without it every input comes from the target (teacher
    forcing).
    """

    share: float = Field(gt=0, le=1)
    """Share of sampled tokens at the end of the run (the paper's 1 - ε)."""
    curve: Literal["constant", "linear", "sigmoid"] = "constant"
    """How the share grows: constant, linear, or along a sigmoid (the paper's inverse sigmoid
    decay)."""

    def build(self) -> "Sampler":
        return Sampler(self)


class Sampler(nn.Module):
    """Chooses the decoder's input at each step: the target's token or a sampled one."""

    def __init__(self, config: ScheduledSampling) -> None:
        super().__init__()
        self.share, self.curve = config.share, config.curve

    def at(self, progress: mx.array | None) -> mx.array:
        """The share of sampled tokens at `progress` (0 to 1) of the run; None: at its end."""
        done = mx.array(1.0) if progress is None else progress
        if self.curve == "constant":
            return mx.array(self.share)
        return self.share * (done if self.curve == "linear" else mx.sigmoid(STEEP * (done - 0.5)))

    def chooser(
        self,
        shape: tuple[int, int],
        logits: Callable[[mx.array], mx.array],
        embed: Callable[[mx.array], mx.array],
        ctx: Context,
    ) -> Callable[[int, mx.array, mx.array], mx.array]:
        """Return the function `(t, forced [B, I], y_t [B, D]) -> input of step t + 1`.

        Tokens are sampled from `logits(y) [B, V]`, without a gradient through the sample.

        Args:
            shape: (B, T) of the target.
            logits: from a decoder output `[B, D]` to logits.
            embed: from tokens `[B, 1]` to inputs `[B, 1, I]`.
            ctx: gives PRNG keys and `scalars["progress"]`.
        """
        coins = mx.random.uniform(shape=shape, key=ctx.next_key()) < self.at(
            ctx.scalars.get("progress")
        )
        keys = mx.random.split(ctx.next_key(), shape[1])

        def choose(t: int, forced: mx.array, y: mx.array) -> mx.array:
            scores = mx.stop_gradient(logits(y)).astype(mx.float32)
            sampled = embed(mx.random.categorical(scores, key=keys[t])[:, None])[:, 0]
            return mx.where(coins[:, t, None], sampled, forced)

        return choose
