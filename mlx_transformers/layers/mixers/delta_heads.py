"""Fields and projections that mixers with the delta rule share."""

from typing import Annotated

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field, model_validator

from ...core.context import Context
from ...core.errors import RecipeError
from ...core.footprint import FLOAT32_BYTES, ActivationShape
from ...core.shapes import BTD
from ...ops.activations import ACTIVATIONS
from ...ops.delta_rule import delta_product, delta_rule_flops
from ...ops.norms import l2_norm
from ...recipe.slot import Slot
from ..ffns.mlp import Activation
from ..kinds import MixerKind, NormKind, State
from ..norms import RmsNorm
from ..short_conv import ShortConv
from .head_states import (
    Chunk,
    HeadOutput,
    output_bytes,
    row_facts,
    split_heads,
    width_of_heads,
    zero_state,
)

EPS = 1e-6
"""Added to the squared length of queries and keys, as in the published code."""


class DeltaHeads(MixerKind):
    """Fields of mixers with the delta rule."""

    n_heads: int = Field(ge=1)
    """Heads of queries and keys."""
    n_value_heads: int | None = Field(None, ge=1)
    """Heads H of values, a multiple of n_heads; none means as many."""
    key_dim: int | None = Field(None, ge=1)
    """Width of the queries, and of the keys, of all heads together; none means dim."""
    value_dim: int | None = Field(None, ge=1)
    """Width of the values of all heads together; none means dim."""
    conv_width: int | None = Field(4, ge=1)
    """Tokens that the short convolutions of q, k and v read; none means no convolutions."""
    activation: Activation = "silu"
    """The activation of q, k and v, after the convolutions."""
    corrections: int = Field(1, ge=1)
    """Corrections n of the state by each token, with keys, values and strengths of their own; more
    than 1 is DeltaProduct (Siems et al. 2025)."""
    reflect: bool = False
    """Whether β goes up to 2 instead of 1, so that eigenvalues of the state's transition can be
    negative (Grazzi et al. 2024)."""
    gate: Activation | None = None
    """The activation of the output gate; none means no gate."""
    out_rank: int | None = Field(None, ge=1)
    """Rank of the map from the input to the output gate (Kimi Linear); none means a full matrix."""
    norm: Annotated[NormKind, Slot("norm")] = RmsNorm()
    """Normalisation of each head's output; heads share its weight."""
    chunk: Chunk = 64
    """Tokens that are computed at once in training, a power of two."""

    @model_validator(mode="after")
    def _out_rank_has_a_use(self) -> "DeltaHeads":
        if self.out_rank is not None and self.gate is None:
            raise ValueError("out_rank has no effect without gate: set that, or unset this.")
        return self

    @property
    def value_heads(self) -> int:
        """Heads H of values."""
        return self.n_value_heads or self.n_heads

    def widths(self, dim: int) -> tuple[int, int]:
        """Widths K and V of one head.

        Raises:
            RecipeError: heads don't fit each other or the widths.
        """
        if self.value_heads % self.n_heads:
            raise RecipeError(
                f"mixer.n_heads = {self.n_heads} does not divide mixer.n_value_heads = "
                f"{self.value_heads}: every head of keys serves the same number of value heads."
            )
        return (
            width_of_heads("mixer.key_dim", self.key_dim or dim, self.n_heads),
            width_of_heads("mixer.value_dim", self.value_dim or dim, self.value_heads),
        )

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Input; q, k and v before and after convolution, activation and norm; the output's own."""
        keys, values, n = self.key_dim or dim, self.value_dim or dim, self.corrections
        stages = 2 if self.conv_width is None else 3
        inside = dim + (1 + n) * (stages + 2) * keys + n * stages * values
        if n > 1:
            inside += n * (keys + values)
        scalars = 5.0 * n * self.value_heads * FLOAT32_BYTES
        outside = output_bytes(values, at.itemsize, gate=self.gate is not None)
        return (inside + (self.out_rank or 0)) * at.itemsize + scalars + outside

    @property
    def decays_features(self) -> bool:
        """Whether each feature of the keys has a decay of its own."""
        return False

    def flops(self, dim: int, length: int) -> float:
        """Products within chunks and with states."""
        key_dim, value_dim = self.widths(dim)
        return self.corrections * delta_rule_flops(
            self.corrections * length,
            n_heads=self.value_heads,
            groups=self.n_heads,
            key_dim=key_dim,
            value_dim=value_dim,
            chunk=self.chunk,
            per_feature=self.decays_features,
        )


class DeltaMixer(nn.Module):
    """`(x [B, T, D], ctx) -> [B, T, D]`; the state is a matrix `[K, V]` per head and, with short
    convolutions, their last inputs."""

    def __init__(self, config: DeltaHeads, dim: int) -> None:
        super().__init__()
        self.n_heads, self.value_heads = config.n_heads, config.value_heads
        self.chunk, self.reflect = config.chunk, config.reflect
        self.activation, self.corrections = config.activation, config.corrections
        self.key_dim, self.value_dim = config.widths(dim)
        keys, values = self.n_heads * self.key_dim, self.value_heads * self.value_dim
        self.convolves = config.conv_width is not None
        n = config.corrections
        for name, width in (("q", keys), ("k", n * keys), ("v", n * values)):
            self[name] = nn.Linear(dim, width, bias=False)
            if config.conv_width is not None:
                self[f"{name}_conv"] = ShortConv(width, config.conv_width, bias=False)
        self.beta = nn.Linear(dim, n * self.value_heads, bias=False)
        self.out = HeadOutput(
            dim, self.value_heads, self.value_dim, config.norm, config.gate, config.out_rank
        )

    def __call__(self, x: BTD, ctx: Context) -> BTD:
        projected = [self[name](x) for name in "qkv"]
        if self.convolves:
            pairs = zip("qkv", projected, strict=True)
            projected = [self[f"{name}_conv"](y, ctx) for name, y in pairs]
        return self._mix(x, projected, None, ctx)[0]

    def init_state(self, batch: int, length: int, dtype: mx.Dtype) -> State:
        """Zeros."""
        state = zero_state(batch, self.value_heads, self.key_dim, self.value_dim)
        if self.convolves:
            state |= {name: self[f"{name}_conv"].init_state(batch, dtype) for name in "qkv"}
        return state

    def step(self, x: BTD, state: State, ctx: Context) -> tuple[BTD, State]:
        """Continue by the T tokens of `x`."""
        projected, after = [], dict(state)
        for name in "qkv":
            y = self[name](x)
            if self.convolves:
                y, after[name] = self[f"{name}_conv"].step(y, state[name], ctx)
            projected.append(y)
        y, after["s"] = self._mix(x, projected, state["s"], ctx)
        return y, after

    def log_decay(self, x: mx.array) -> mx.array | None:
        """Log-decays `[B, H, T]`, or with features, of the input `[B, T, D]`; None: no decay."""
        return None

    def _mix(
        self, x: mx.array, projected: list[mx.array], state: mx.array | None, ctx: Context
    ) -> tuple[mx.array, mx.array]:
        act = ACTIVATIONS[self.activation]
        q, k, v = (act(y) for y in projected)
        beta = mx.sigmoid(self.beta(x).astype(mx.float32))
        out, state = delta_product(
            l2_norm(split_heads(q, self.n_heads), EPS),
            l2_norm(self._apart(k, self.n_heads), EPS),
            self._apart(v, self.value_heads),
            self._apart(2 * beta if self.reflect else beta, self.value_heads)[..., 0],
            self.log_decay(x),
            scale=self.key_dim**-0.5,
            state=state,
            chunk=self.chunk,
            **row_facts(ctx, x.shape[1]),
        )
        return self.out(out, x), state

    def _apart(self, x: mx.array, n_heads: int) -> mx.array:
        """`[B, T, n * H * K]` as `[B, H, T * n, K]`, the n corrections of a token in order."""
        return split_heads(x.reshape(x.shape[0], -1, x.shape[2] // self.corrections), n_heads)
