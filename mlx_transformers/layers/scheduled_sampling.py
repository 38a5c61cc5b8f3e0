"""Scheduled sampling: a decoder that gets used to its own mistakes while it trains."""

from collections.abc import Callable
from typing import Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field

from ..core.context import Context
from ..recipe.config import Config

STEEP = 12.0
"""The logistic curve runs from -STEEP/2 to STEEP/2 over a run: from 0.002 to 0.998."""


class ScheduledSampling(Config):
    """Some inputs of the decoder are tokens that it drew itself, in place of the target's.

    Bengio et al. 2015, section 2.3. Without it every input is the target's: teacher forcing.
    """

    share: float = Field(gt=0, le=1)
    """Share of own tokens at the end of the run (the paper's 1 - ε)."""
    curve: Literal["constant", "linear", "sigmoid"] = "constant"
    """How that is reached: from the first step on, evenly, or slowly at both ends (the paper's
    inverse sigmoid decay)."""

    def build(self) -> "Sampler":
        return Sampler(self)


class Sampler(nn.Module):
    """Decides step by step what the decoder reads; a coin for every token of a pass."""

    def __init__(self, config: ScheduledSampling) -> None:
        super().__init__()
        self.share, self.curve = config.share, config.curve

    def at(self, progress: mx.array | None) -> mx.array:
        """The share of own tokens when `progress` of the run is done; None is its end."""
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
        """`(t, given [B, I], y_t [B, D]) -> input of step t + 1`, for a pass over `shape` (B, T).

        The token is drawn from `logits(y) [B, V]`, and nothing is learned through the draw.
        """
        coins = mx.random.uniform(shape=shape, key=ctx.next_key()) < self.at(
            ctx.scalars.get("progress")
        )
        keys = mx.random.split(ctx.next_key(), shape[1])

        def choose(t: int, given: mx.array, y: mx.array) -> mx.array:
            scores = mx.stop_gradient(logits(y)).astype(mx.float32)
            own = embed(mx.random.categorical(scores, key=keys[t])[:, None])[:, 0]
            return mx.where(coins[:, t, None], own, given)

        return choose
