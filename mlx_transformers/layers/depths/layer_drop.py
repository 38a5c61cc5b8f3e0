"""LayerDrop and stochastic depth: layers that are skipped at random in training."""

import math
from typing import Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field

from ...core.context import Context
from ...core.footprint import ActivationShape
from ...core.shapes import BTD
from ..kinds import DepthKind, RunLayer


class LayerDrop(DepthKind):
    """Each layer is skipped with a probability in training, and runs in evaluation.

    Fan et al. 2019 (LayerDrop); `linear` over depth is stochastic depth (Huang et al. 2016),
    `exponential` LayerSkip's (Elhoushi et al. 2024, section 3.1). Outputs are not rescaled. All
    layers are computed, and the output of a skipped one left out.
    """

    kind: Literal["layer_drop"] = "layer_drop"
    rate: float = Field(gt=0, lt=1)
    """Probability that the last layer is skipped, and that of every layer if it is constant."""
    over_depth: Literal["constant", "linear", "exponential"] = "constant"
    """How the probability grows with layer l of L: 1, `(l + 1) / L`, or `2^(l / (L - 1)) - 1`,
    times the rate."""
    over_time: Literal["constant", "exponential"] = "constant"
    """How it grows over a run from 0 to 1, t: 1, or `2^t - 1` (LayerSkip from scratch)."""
    by: Literal["batch", "row"] = "batch"
    """Whether a layer is skipped for a whole batch (LayerDrop) or for each row (LayerSkip)."""

    def build(self, dim: int, n_layers: int) -> "LayerDropDepth":
        return LayerDropDepth(self)

    def saved_bytes(self, dim: int, at: ActivationShape, n_layers: int) -> float:
        """None but the draws: a choice of two arrays needs neither."""
        return 0.0


class LayerDropDepth(nn.Module):
    """`(x [B, T, D], ctx, n_layers, run) -> [B, T, D]`."""

    def __init__(self, config: LayerDrop) -> None:
        super().__init__()
        self.config = config
        self.dropout = config.rate

    def __call__(self, x: BTD, ctx: Context, n_layers: int, run: RunLayer) -> BTD:
        for i in range(n_layers):
            y = run(i, x)
            x = mx.where(self._kept(i, n_layers, x.shape[0], ctx), y, x) if ctx.training else y
            ctx.collected.add_layer(x)
        return x

    def _kept(self, layer: int, n_layers: int, batch: int, ctx: Context) -> mx.array:
        """Whether the layer runs, `[1 or B, 1, 1]`."""
        rate = self.dropout * self.share(layer, n_layers) * self._grown(ctx)
        rows = batch if self.config.by == "row" else 1
        key = mx.stop_gradient(ctx.next_key())
        return mx.random.uniform(shape=(rows, 1, 1), key=key) >= rate

    def share(self, layer: int, n_layers: int) -> float:
        """The factor of the rate at a layer."""
        if self.config.over_depth == "linear":
            return (layer + 1) / n_layers
        if self.config.over_depth == "exponential":
            return float(2.0 ** (layer / max(n_layers - 1, 1))) - 1.0
        return 1.0

    def _grown(self, ctx: Context) -> mx.array | float:
        """The factor of the rate at this time of the run."""
        if self.config.over_time == "constant":
            return 1.0
        progress = ctx.scalars.get("progress", mx.array(1.0))
        return mx.exp(math.log(2) * progress) - 1.0
