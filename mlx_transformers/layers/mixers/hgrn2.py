"""HGRN2: gated linear attention whose keys are one minus the forget gates."""

from typing import Annotated, Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field

from ...core.context import Context
from ...core.footprint import FLOAT32_BYTES, ActivationShape
from ...ops.linear_attention import linear_attention_flops
from ...recipe.slot import Slot
from ..kinds import MixerKind, NormKind
from ..linear import ResidualLinear
from ..norms import RmsNorm
from .head_states import Chunk, MatrixStateMixer, decayed_attention, split_heads, width_of_heads


class Hgrn2(MixerKind):
    """HGRN2: a gated linear recurrence whose state is expanded by an outer product.

        f = λ + (1 - λ) σ(W_f x)          q = silu(W_q x)          v = W_v x
        S_t = diag(f_t) S_{t-1} + (1 - f_t) v_tᵀ          y_t = W_o norm(S_tᵀ q_t)

    Qin et al. 2024, "HGRN2: Gated Linear RNNs with State Expansion", equations 8 and 9. The paper
    learns the lower bounds λ, which rise from layer to layer; here they are a field of the recipe.
    """

    kind: Literal["hgrn2"] = "hgrn2"
    n_heads: int = Field(ge=1)
    """Heads H."""
    key_dim: int | None = Field(None, ge=1)
    """Width of the forget gates of all heads together; none means dim."""
    lower_bound: float = Field(0.0, ge=0, lt=1)
    """λ: the least share of the state that a token keeps."""
    norm: Annotated[NormKind, Slot("norm")] = RmsNorm()
    """Normalisation of the heads' outputs side by side."""
    chunk: Chunk = 64
    """Tokens that are computed at once in training, a power of two."""

    def widths(self, dim: int) -> tuple[int, int]:
        """Widths K and V of one head."""
        return (
            width_of_heads("mixer.key_dim", self.key_dim or dim, self.n_heads),
            width_of_heads("model.dim", dim, self.n_heads),
        )

    def build(self, dim: int) -> "Hgrn2Mixer":
        return Hgrn2Mixer(self, dim)

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Input, gates, queries and values, and the output."""
        keys = self.key_dim or dim
        return (4 * dim + 3 * keys) * at.itemsize + 4 * keys * FLOAT32_BYTES

    def flops(self, dim: int, length: int) -> float:
        """Products within chunks and with states."""
        key_dim, value_dim = self.widths(dim)
        return linear_attention_flops(
            length,
            n_heads=self.n_heads,
            key_dim=key_dim,
            value_dim=value_dim,
            chunk=self.chunk,
            per_feature=True,
        )


class Hgrn2Mixer(MatrixStateMixer):
    """`(x [B, T, D], ctx) -> [B, T, D]`; the state is a matrix `[K, V]` per head."""

    def __init__(self, config: Hgrn2, dim: int) -> None:
        super().__init__()
        self.n_heads, self.chunk = config.n_heads, config.chunk
        self.lower_bound = config.lower_bound
        self.key_dim, self.value_dim = config.widths(dim)
        keys = self.n_heads * self.key_dim
        self.q, self.f = (nn.Linear(dim, keys, bias=False) for _ in range(2))
        self.v = nn.Linear(dim, dim, bias=False)
        self.norm = config.norm.build(dim)
        self.o = ResidualLinear(dim, dim, bias=False)

    def _mix(self, x: mx.array, state: mx.array | None, ctx: Context) -> tuple[mx.array, mx.array]:
        gate = self.f(x).astype(mx.float32)
        added = (1 - self.lower_bound) * mx.sigmoid(-gate)  # 1 - f, exact where f is near 1
        decay = mx.log1p(-added) if self.lower_bound else nn.log_sigmoid(gate)
        arrays = (nn.silu(self.q(x)), added.astype(x.dtype), self.v(x), decay)
        q, k, v, decay = (split_heads(array, self.n_heads) for array in arrays)
        out, state = decayed_attention(q, k, v, decay, state, ctx, scale=1.0, chunk=self.chunk)
        return self.o(self.norm(out.transpose(0, 2, 1, 3).flatten(-2))), state
