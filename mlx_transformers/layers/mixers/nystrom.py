"""Nyströmformer: softmax attention by way of landmarks, linear in length."""

from typing import ClassVar, Literal

import mlx.core as mx
from pydantic import Field, model_validator

from ...core.context import Context
from ...core.footprint import FLOAT32_BYTES, ActivationShape
from ...core.shapes import BTD
from ...ops.attention import attention
from ...ops.masks import Mask
from ...ops.nystrom import Start, depthwise_conv, nystrom_attention
from ..parameter import Role
from .projected import ProjectedHeads, WholeSequence


class Nystrom(ProjectedHeads):
    """Nyström attention: `softmax(q kₗᵀ) softmax(qₗ kₗᵀ)⁺ softmax(qₗ kᵀ) v`, plus a convolution.

    Xiong et al. 2021 (Nyströmformer), equations 12 to 15; landmarks `qₗ`, `kₗ` are means of
    neighbours. An encoder's mixer: landmarks read the whole sequence. A sequence of no more tokens
    than landmarks has exact attention.
    """

    causal: ClassVar[bool] = False
    kind: Literal["nystrom"] = "nystrom"
    n_landmarks: int = Field(ge=1)
    """Landmarks, the rank of the approximation (64 in the paper)."""
    iterations: int = Field(6, ge=1)
    """Iterations of the pseudo-inverse."""
    kernel: int | None = Field(None, ge=1)
    """Taps of a depthwise convolution of the values, one filter per head, which is added; none
    means no convolution."""
    masked: Literal["all", "keys"] = "all"
    """Padding is excluded from landmarks and softmaxes (`all`), or from the softmax over keys
    alone, as in the published models (`keys`)."""
    start: Start = "matrix"
    """The divisor of the pseudo-inverse's first iterate: norms of each matrix, or of the whole
    batch as published (`batch`), so that rows depend on each other."""

    @model_validator(mode="after")
    def _kernel_has_a_middle(self) -> "Nystrom":
        if self.kernel is not None and self.kernel % 2 == 0:
            raise ValueError(
                f"kernel = {self.kernel} is even, so it has no middle: choose {self.kernel + 1}."
            )
        return self

    def build(self, dim: int) -> "NystromMixer":
        return NystromMixer(self, dim)

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Input, heads, three softmaxes, iterates of the pseudo-inverse, and the output."""
        width, n = self.n_heads * self.width_of_head(dim), self.n_landmarks
        if at.length <= n:
            pairs = 2.0 * at.length * self.n_heads * FLOAT32_BYTES
            return (dim + 4 * width) * at.itemsize + pairs
        between = (6 * self.iterations + 2) * n * n * self.n_heads / at.length
        inside = 4 * width + 3 * n * self.n_heads + between + 2 * width * n / at.length
        values = 0 if self.kernel is None else width * at.itemsize
        return (dim + width) * at.itemsize + inside * FLOAT32_BYTES + values

    def flops(self, dim: int, length: int) -> float:
        """Products of positions and landmarks, the pseudo-inverse, and the convolution."""
        heads, width, n = self.n_heads, self.width_of_head(dim), self.n_landmarks
        taps = 0.0 if self.kernel is None else 2.0 * heads * self.kernel * (width - 1)
        if length <= n:
            return 4.0 * heads * width * length + taps
        rows = -(-length // n) * n / length
        inverse = 2.0 * n * n * (4 * self.iterations * n + width) / length
        return heads * (rows * (8.0 * n * width + 2.0 * n * n) + inverse) + taps


class NystromMixer(WholeSequence):
    """`(x [B, T, D], ctx) -> [B, T, D]`, bidirectional in every pass."""

    roles: ClassVar[dict[str, Role]] = {"conv": "matrix"}

    def __init__(self, config: Nystrom, dim: int) -> None:
        super().__init__(config, dim)
        self.n_landmarks, self.iterations = config.n_landmarks, config.iterations
        self.masked, self.start = config.masked, config.start
        if config.kernel is not None:
            self.conv = mx.zeros((config.n_heads, config.kernel))

    def __call__(self, x: BTD, ctx: Context) -> BTD:
        q, k = ctx.position.rotate(self._heads(self.q(x)), self._heads(self.k(x)), ctx)
        v, valid = self._heads(self.v(x)), ctx.layout.valid
        scale = self.head_dim**-0.5
        if x.shape[1] <= self.n_landmarks:
            y = attention(q, k, v, scale=scale, mask=Mask(causal=False, valid=valid))
        else:
            if valid is None and x.shape[1] % self.n_landmarks:
                valid = mx.ones(x.shape[:2], mx.bool_)
            y = nystrom_attention(
                q,
                k,
                v,
                n_landmarks=self.n_landmarks,
                iterations=self.iterations,
                scale=scale,
                valid=valid,
                masked=self.masked,
                start=self.start,
            ).astype(x.dtype)
        if "conv" in self:
            real = ctx.layout.valid if self.masked == "all" else None
            values = v if real is None else mx.where(real[:, None, :, None], v, 0)
            y = y + depthwise_conv(values, self.conv)
        return self._merge(y.astype(x.dtype))
