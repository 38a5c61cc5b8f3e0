"""Performer: softmax attention estimated by random features, linear in length (FAVOR+)."""

import math
from typing import ClassVar, Literal

import mlx.core as mx
import numpy as np
from pydantic import Field, model_validator

from ...core.context import Context
from ...core.footprint import FLOAT32_BYTES, ActivationShape
from ...ops.activations import ACTIVATIONS
from ...ops.linear_attention import linear_attention_flops
from ...ops.random_features import generalized_features, orthogonal_projection, softmax_features
from ..kinds import State
from ..parameter import Role
from .head_states import Chunk, zero_state
from .kernel_features import KernelFeatureMixer
from .projected import ProjectedHeads, ProjectedMixer


class Performer(ProjectedHeads):
    """Attention by random features, `φ(q_t) Σ_s φ(k_s) v_sᵀ / φ(q_t) Σ_s φ(k_s)`.

    Choromanski et al. 2021, sections 2.2 to 2.4. Published code subtracts the largest exponent of
    all keys, from which a causal output would learn of later ones; here keys have no maximum. With
    rotary positions the estimate, but not its mean, depends on absolute positions.
    """

    kind: Literal["performer"] = "performer"
    kernel: Literal["softmax", "relu", "relu2", "sigmoid"] = "softmax"
    """`softmax` for positive features of the softmax kernel, or the activation of a generalised
    kernel, which is never negative (best: relu)."""
    n_features: int | None = Field(None, ge=1)
    """Random features N of a head; none means K ln K."""
    eps: float | None = Field(None, ge=0)
    """Added to each feature; none means 1e-4 for softmax and 1e-3 otherwise."""
    orthogonal: bool = True
    """Whether the random vectors are orthogonal in blocks of K, rather than independent."""
    regular: bool = False
    """Whether orthogonal vectors all have norm √K, rather than those of Gaussian vectors."""
    redraws: int = Field(0, ge=0)
    """How often training redraws the features, at equal distances. All draws are made when the
    model is built; evaluation and decoding use the last."""
    chunk: Chunk = 64
    """Tokens that are computed at once in training, a power of two."""

    @model_validator(mode="after")
    def _fits(self) -> "Performer":
        if self.regular and not self.orthogonal:
            raise ValueError("regular goes with orthogonal features: unset it.")
        return self

    def features(self, dim: int) -> int:
        """Random features N of a head."""
        width = self.width_of_head(dim)
        return self.n_features or max(1, int(width * math.log(width)))

    def build(self, dim: int) -> "PerformerMixer":
        return PerformerMixer(self, dim)

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Input, heads, features of queries and keys, values with a one, and the output."""
        width = self.n_heads * self.width_of_head(dim)
        features = self.n_heads * self.features(dim)
        heads = (5 if self.kernel == "softmax" else 3) * width
        return (dim + width) * at.itemsize + (4 * features + heads) * FLOAT32_BYTES

    def flops(self, dim: int, length: int) -> float:
        """Features, the products of pairs in a chunk, and those of a chunk and the state."""
        width, n = self.width_of_head(dim), self.features(dim)
        sums = linear_attention_flops(
            length, n_heads=self.n_heads, key_dim=n, value_dim=width + 1, chunk=self.chunk
        )
        return 4.0 * self.n_heads * n * width + sums


class PerformerMixer(ProjectedMixer, KernelFeatureMixer):
    """`(x [B, T, D], ctx) -> [B, T, D]`; the decode state holds the sums of keys and values."""

    roles: ClassVar[dict[str, Role]] = {"projection": "own"}

    def __init__(self, config: Performer, dim: int) -> None:
        super().__init__(config, dim)
        self.kernel, self.chunk, self.eps = config.kernel, config.chunk, config.eps
        rng = np.random.default_rng(np.asarray(mx.random.randint(0, 2**31 - 1, (1,))))
        shape = (config.features(dim), self.head_dim)
        draws = [
            orthogonal_projection(*shape, rng, regular=config.regular)
            if config.orthogonal
            else rng.standard_normal(shape).astype(np.float32)
            for _ in range(config.redraws + 1)
        ]
        self.projection = mx.array(np.stack(draws))
        self.freeze(keys=["projection"], recurse=False)

    def init_state(self, batch: int, length: int, dtype: mx.Dtype) -> State:
        """Zeros; the last value of each feature is the sum of the keys."""
        return zero_state(batch, self.n_heads, self.projection.shape[1], self.head_dim + 1)

    def _project(self, x: mx.array, ctx: Context) -> tuple[mx.array, mx.array, mx.array]:
        q, k = ctx.position.rotate(self._heads(self.q(x)), self._heads(self.k(x)), ctx)
        w = self._drawn(ctx)
        if self.kernel == "softmax":
            eps = 1e-4 if self.eps is None else self.eps
            q = softmax_features(q, w, eps=eps)
            k = softmax_features(k, w, eps=eps, maximum=None)
        else:
            eps, activation = 1e-3 if self.eps is None else self.eps, ACTIVATIONS[self.kernel]
            q, k = (generalized_features(y, w, activation, eps=eps) for y in (q, k))
        return q, k, self._heads(self.v(x)).astype(mx.float32)

    def _drawn(self, ctx: Context) -> mx.array:
        """The projection `[N, K]` of this share of the run; the last one outside of a run."""
        n = self.projection.shape[0]
        if n == 1 or "progress" not in ctx.scalars:
            return self.projection[n - 1]
        which = mx.floor(ctx.scalars["progress"] * n).astype(mx.int32)
        return self.projection[mx.clip(which, 0, n - 1)]
