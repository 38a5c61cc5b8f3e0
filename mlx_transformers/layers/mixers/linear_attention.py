"""Linear attention: a feature map in the place of the softmax."""

from collections.abc import Callable
from typing import Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field

from ...core.context import Context
from ...core.footprint import ActivationShape
from ...ops.linear_attention import (
    elu_plus_one,
    linear_attention_flops,
    taylor_features,
)
from ..kinds import MixerKind, State
from ..linear import ResidualLinear
from .head_states import Chunk, split_heads, width_of_heads, zero_state
from .kernel_features import KernelFeatureMixer

FEATURES: dict[str, Callable[[mx.array], mx.array]] = {
    "elu": elu_plus_one,
    "taylor": taylor_features,
}


class LinearAttention(MixerKind):
    """Linear attention: `o_t = Σ_s φ(k_s)·φ(q_t) v_s / (Σ_s φ(k_s)·φ(q_t) + eps)`.

        elu     φ(x) = elu(x) + 1                      Katharopoulos et al. 2020, equation 7
        taylor  φ(q)·φ(k) = 1 + s + s²/2, s = q·k/√K   Arora et al. 2024 (Based), equation 3

    Katharopoulos et al. 2020, "Transformers are RNNs", equations 4 to 9 and 16 to 20. In a causal
    pass s ends at t, otherwise the sums are over the whole document.
    """

    kind: Literal["linear_attention"] = "linear_attention"
    n_heads: int = Field(ge=1)
    """Heads H."""
    key_dim: int | None = Field(None, ge=1)
    """Width of the queries, and of the keys, of all heads together; none means dim."""
    features: Literal["elu", "taylor"] = "elu"
    """The feature map φ; the second has 1 + K + K² features, so that K is small (Based: 16)."""
    eps: float = Field(1e-6, gt=0)
    """Added to the sum of the weights."""
    chunk: Chunk = 64
    """Tokens that are computed at once in training, a power of two."""

    def widths(self, dim: int) -> tuple[int, int]:
        """Widths K and V of one head."""
        return (
            width_of_heads("mixer.key_dim", self.key_dim or dim, self.n_heads),
            width_of_heads("model.dim", dim, self.n_heads),
        )

    def n_features(self, dim: int) -> int:
        """Features of a key of one head."""
        key_dim = self.widths(dim)[0]
        return key_dim if self.features == "elu" else 1 + key_dim + key_dim**2

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Input, q and k before and after the feature map, v with its ones, sums and output."""
        keys = self.key_dim or dim
        features = 3 * keys if self.features == "elu" else 2 * self.n_heads * self.n_features(dim)
        return float((dim + 2 * keys + features + 4 * dim) * at.itemsize)

    def flops(self, dim: int, length: int) -> float:
        """Products within chunks and with states; the normaliser is one more value."""
        return linear_attention_flops(
            length,
            n_heads=self.n_heads,
            key_dim=self.n_features(dim),
            value_dim=self.widths(dim)[1] + 1,
            chunk=self.chunk,
        )

    def build(self, dim: int) -> "LinearAttentionMixer":
        return LinearAttentionMixer(self, dim)


class LinearAttentionMixer(KernelFeatureMixer):
    """`(x [B, T, D], ctx) -> [B, T, D]`; the state is a matrix of features by V + 1."""

    def __init__(self, config: LinearAttention, dim: int) -> None:
        super().__init__()
        self.n_heads, self.chunk, self.sum_eps = config.n_heads, config.chunk, config.eps
        self.key_dim, self.value_dim = config.widths(dim)
        self.features, self.n_features = FEATURES[config.features], config.n_features(dim)
        self.q, self.k = (nn.Linear(dim, self.n_heads * self.key_dim, bias=False) for _ in range(2))
        self.v = nn.Linear(dim, dim, bias=False)
        self.o = ResidualLinear(dim, dim, bias=False)

    def init_state(self, batch: int, length: int, dtype: mx.Dtype) -> State:
        """Zeros; the last value of each key is the sum of weights."""
        return zero_state(batch, self.n_heads, self.n_features, self.value_dim + 1)

    def _project(self, x: mx.array, ctx: Context) -> tuple[mx.array, mx.array, mx.array]:
        q, k, v = (split_heads(layer(x), self.n_heads) for layer in (self.q, self.k, self.v))
        return self.features(q), self.features(k), v

    def _merge(self, y: mx.array) -> mx.array:
        out: mx.array = self.o(y.transpose(0, 2, 1, 3).flatten(-2))
        return out
