"""cosFormer: linear attention whose weights fall with distance as a cosine."""

import math
from typing import Literal

import mlx.core as mx
from pydantic import Field

from ...core.context import Context
from ...core.errors import RunError
from ...core.footprint import FLOAT32_BYTES, ActivationShape
from ...core.shapes import BTD
from ...ops.linear_attention import (
    cosine_features,
    elu_plus_one,
    linear_attention_flops,
)
from ..kinds import State
from .head_states import Chunk, zero_state
from .kernel_features import KernelFeatureMixer
from .projected import ProjectedHeads, ProjectedMixer


class CosFormer(ProjectedHeads):
    """Attention by the weights `act(q_t)·act(k_s) cos(π (t - s) / 2M)`, divided by their sum.

    Qin et al. 2022 (cosFormer), equations 10 to 12. M is fixed here, where published code takes the
    length of the row, so that decoding needs no more than a state.
    """

    kind: Literal["cosformer"] = "cosformer"
    length: int = Field(ge=1)
    """The longest sequence M, at which weights have fallen to 0."""
    activation: Literal["relu", "elu"] = "relu"
    """Activation of queries and keys: `max(x, 0)`, or `elu(x) + 1`."""
    chunk: Chunk = 64
    """Tokens that are computed at once in training, a power of two."""

    def build(self, dim: int) -> "CosFormerMixer":
        return CosFormerMixer(self, dim)

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Input, heads before their activations, features, values with a one, sums and output."""
        width = self.n_heads * self.width_of_head(dim)
        return (dim + 2 * width) * at.itemsize + 7 * width * FLOAT32_BYTES

    def flops(self, dim: int, length: int) -> float:
        """Products within chunks and with states; the normaliser is one more value."""
        width = self.width_of_head(dim)
        return linear_attention_flops(
            length,
            n_heads=self.n_heads,
            key_dim=2 * width,
            value_dim=width + 1,
            chunk=self.chunk,
        )


class CosFormerMixer(ProjectedMixer, KernelFeatureMixer):
    """`(x [B, T, D], ctx) -> [B, T, D]`; the state is a matrix `[2K, K + 1]` per head."""

    def __init__(self, config: CosFormer, dim: int) -> None:
        super().__init__(config, dim)
        self.length, self.chunk = config.length, config.chunk
        self.activation = config.activation

    def __call__(self, x: BTD, ctx: Context) -> BTD:
        self._admit(x.shape[1])
        return super().__call__(x, ctx)

    def init_state(self, batch: int, length: int, dtype: mx.Dtype) -> State:
        """Zeros; the last value of each feature is the sum of the keys."""
        self._admit(length)
        return zero_state(batch, self.n_heads, 2 * self.head_dim, self.head_dim + 1)

    def _project(self, x: mx.array, ctx: Context) -> tuple[mx.array, mx.array, mx.array]:
        place = (mx.arange(x.shape[1]) + ctx.cursor.offset).astype(mx.float32)
        q, k = (self._features(layer(x), place) for layer in (self.q, self.k))
        return q, k, self._heads(self.v(x)).astype(mx.float32)

    def _features(self, y: mx.array, place: mx.array) -> mx.array:
        """The features `[B, H, T, 2K]` of a projection `[B, T, H * K]`."""
        y = self._heads(y).astype(mx.float32)
        y = mx.maximum(y, 0) if self.activation == "relu" else elu_plus_one(y)
        return cosine_features(y, place * (0.5 * math.pi / self.length))

    def _admit(self, length: int) -> None:
        """Raise RunError if a row is longer than the weights reach."""
        if length > self.length:
            raise RunError(
                f"A sequence of {length} tokens is longer than mixer.length = {self.length}, "
                "beyond which weights would be negative. Shorten it, or raise mixer.length."
            )
