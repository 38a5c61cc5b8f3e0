"""The Universal Transformer: recurrence over depth, with adaptive computation time."""

from typing import ClassVar, Literal

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from pydantic import Field

from ...core.context import Context
from ...core.footprint import FLOAT32_BYTES, ActivationShape
from ...core.shapes import BTD
from ...ops.act import Halting
from ...ops.router_losses import token_mean
from ..kinds import DepthKind, RunLayer
from ..linear import matrix
from ..parameter import Role


class Universal(DepthKind):
    """Layers as steps of a recurrence over depth; each token halts when it is done.

    Dehghani et al. 2018, section 2 and appendix C; Graves 2016. Before each step its number, and
    after the first one absolute positions again, are added. A halting probability
    `p = sigmoid(w h + b)` per token weighs the steps' outputs; halted tokens still change for the
    others to read, with weight 0. Set `model.n_distinct = 1` to share one block over all steps. A
    step is computed for all tokens: halting changes the result and the ponder cost, not the work.
    """

    kind: Literal["universal"] = "universal"
    threshold: float = Field(0.99, gt=0, lt=1)
    """Sum of halting probabilities above which a token halts, `1 - ε`."""
    ponder_loss: float = Field(0.01, ge=0)
    """Coefficient of the ponder cost, steps plus remainder, mean over tokens."""
    output: Literal["interpolated", "sum"] = "interpolated"
    """The result: `w h + (1 - w) out` step after step (tensor2tensor), or the sum of `w h` with
    weights that sum to 1 (Graves 2016, equation 8)."""
    steps: Literal["sinusoidal", "learned", "none"] = "sinusoidal"
    """Encoding of the step's number that is added before each step."""
    halting_bias: float = 1.0
    """The start of b: at 1 a token halts after two steps."""

    def build(self, dim: int, n_layers: int) -> "UniversalDepth":
        return UniversalDepth(self, dim, n_layers)

    def saved_bytes(self, dim: int, at: ActivationShape, n_layers: int) -> float:
        """States, outputs and halting of every step."""
        return n_layers * (2.0 * dim * at.itemsize + 8 * FLOAT32_BYTES)


class UniversalDepth(nn.Module):
    """`(x [B, T, D], ctx, n_layers, run) -> [B, T, D]`."""

    roles: ClassVar[dict[str, Role]] = {"halting_bias": "own", "steps": "table"}

    def __init__(self, config: Universal, dim: int, n_layers: int) -> None:
        super().__init__()
        self.config = config
        self.halt = nn.Linear(dim, 1, bias=False)
        self.halting_bias = mx.full((1,), config.halting_bias)
        if config.steps == "learned":
            self.steps = mx.random.normal((n_layers, dim)) * 0.02

    def __call__(self, x: BTD, ctx: Context, n_layers: int, run: RunLayer) -> BTD:
        config, out = self.config, mx.zeros_like(x)
        halting = Halting.start(x.shape[:2])
        weight = matrix(self.halt)[0].astype(mx.float32)
        for i in range(n_layers):
            x = self._encoded(x if i == 0 else ctx.position.embed(x, ctx), i)
            p = mx.sigmoid(x.astype(mx.float32) @ weight + self.halting_bias)
            last = config.output == "sum" and i == n_layers - 1
            share, halting = halting.step(p, config.threshold, last)
            x = run(i, x)
            share = share[..., None].astype(x.dtype)
            previous = out if config.output == "sum" else (1 - share) * out
            out = share * x + previous
            ctx.collected.add_layer(out)
        self._report(halting, ctx)
        return out

    def _encoded(self, x: mx.array, step: int) -> mx.array:
        """x and the encoding of a step's number."""
        if self.config.steps == "none":
            return x
        if self.config.steps == "learned":
            return x + self.steps[step].astype(x.dtype)
        return x + mx.array(sinusoid(step, x.shape[-1])).astype(x.dtype)

    def _report(self, halting: Halting, ctx: Context) -> None:
        """Add the ponder cost, and the mean number of steps for the log."""
        valid = ctx.layout.valid
        weights = None if valid is None else valid.reshape(1, -1)
        ctx.collected.observe("steps", halting.updates)

        def mean(values: mx.array) -> mx.array:
            return token_mean(values.reshape(1, -1, 1), weights)[0, 0]

        if self.config.ponder_loss:
            ctx.collected.add_aux("ponder", self.config.ponder_loss * mean(halting.ponder()))
        ctx.collected.add_stat("steps_per_token", mean(halting.updates))


def sinusoid(step: int, dim: int) -> np.ndarray:
    """The sinusoidal encoding of a step's number, sines and cosines alternating, `[D]`."""
    angle = step / 10000.0 ** (np.arange(0, dim, 2) / dim)
    return np.stack([np.sin(angle), np.cos(angle)], axis=-1).reshape(-1)[:dim].astype(np.float32)
