"""The minimal gated recurrent unit as a mixer."""

from typing import Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field

from ...core.context import Context
from ...core.errors import RecipeError
from ...core.footprint import FLOAT32_BYTES, ActivationShape
from ...core.shapes import BTD
from ...ops.mingru import mingru
from ...ops.unstack import split_last
from ..kinds import MixerKind, State
from ..linear import ResidualLinear, matrix
from ..token_masks import document_starts, real_tokens


class Mingru(MixerKind):
    """minGRU: `h_t = (1 - z_t) h_{t-1} + z_t g(W_h x_t)`, `z = σ(W_z x_t)`, then `W_o h`.

    Feng et al. 2024, "Were RNNs All We Needed?", section 3.1 and appendix B.3. Neither gate nor
    candidate reads the state, so that training is a scan. As in the published code, there is no
    W_o where the width is the model's, unless `project` says so.
    """

    kind: Literal["mingru"] = "mingru"
    expansion: float = Field(1.0, gt=0)
    """Features of the recurrence, as a multiple of dim."""
    project: bool | None = None
    """Whether an output projection follows; none means only where the widths differ."""

    def width(self, dim: int) -> int:
        """Features of the recurrence."""
        return int(dim * self.expansion)

    def projects(self) -> bool:
        """Whether an output projection follows."""
        return self.expansion != 1.0 if self.project is None else self.project

    def build(self, dim: int) -> "MingruMixer":
        if self.width(dim) < 1:
            raise RecipeError(
                f"mixer.expansion = {self.expansion} of model.dim = {dim} leaves no feature. "
                f"Choose at least 1 / {dim}."
            )
        if self.width(dim) != dim and not self.projects():
            raise RecipeError(
                f"mixer.expansion = {self.expansion} makes {self.width(dim)} features of "
                f"model.dim = {dim}: set mixer.project = true, or expansion = 1."
            )
        return MingruMixer(self, dim)

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Input, gate and candidate in float32, and the output where a projection reads it."""
        width = self.width(dim)
        output = width * at.itemsize if self.projects() else 0
        return dim * at.itemsize + 2 * width * FLOAT32_BYTES + output

    def flops(self, dim: int, length: int) -> float:
        """None beyond two for each weight: the recurrence is elementwise."""
        return 0.0


class MingruMixer(nn.Module):
    """`(x [B, T, D], ctx) -> [B, T, D]`; the state is one vector per row."""

    def __init__(self, config: Mingru, dim: int) -> None:
        super().__init__()
        width = config.width(dim)
        self.x = nn.Linear(dim, 2 * width, bias=False)
        if config.projects():
            self.o = ResidualLinear(width, dim, bias=False)

    def __call__(self, x: BTD, ctx: Context) -> BTD:
        return self.step(x, self.init_state(x.shape[0], x.shape[1], x.dtype), ctx)[0]

    def init_state(self, batch: int, length: int, dtype: mx.Dtype) -> State:
        """Zeros, in float32."""
        return {"h": mx.zeros((batch, matrix(self.x).shape[0] // 2))}

    def step(self, x: BTD, state: State, ctx: Context) -> tuple[BTD, State]:
        """Continue by the T tokens of `x`."""
        candidate, gate = split_last(self.x(x), 2)
        valid = real_tokens(ctx, x.shape[1])
        h, last = mingru(candidate, gate, state["h"], document_starts(ctx), valid)
        return self.o(h) if "o" in self else h, {"h": last}
