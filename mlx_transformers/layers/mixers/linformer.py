"""Linformer: attention over keys and values that a learned matrix compresses along time."""

from typing import ClassVar, Literal

import mlx.core as mx
from pydantic import Field, model_validator

from ...core.context import Context
from ...core.errors import RunError
from ...core.footprint import FLOAT32_BYTES, ActivationShape
from ...core.shapes import BTD
from ...ops.attention import attention_saved_bytes
from ...ops.linformer import linformer_attention
from ...ops.masks import Mask
from ..parameter import Role
from .projected import GroupedHeads, WholeSequence


class Linformer(GroupedHeads):
    """Attention of rank R: `softmax(q (E k)ᵀ / √K) F v`, with learned E and F `[R, S]`.

    Wang et al. 2020, equation 7. An encoder's mixer: E and F read the whole sequence. Padding reads
    as zeros, so that a row has the same output with padding behind it as without.
    """

    causal: ClassVar[bool] = False
    kind: Literal["linformer"] = "linformer"
    rank: int = Field(ge=1)
    """Rows R of E and F, which stand for the keys in attention (256 in the paper)."""
    length: int = Field(ge=1)
    """Columns of E and F: the longest sequence. Shorter ones use the first columns."""
    sharing: Literal["none", "heads", "keys_and_values"] = "heads"
    """Sharing of projections: `none`, each head has its own E and F; `heads`, a layer has one E
    and one F; `keys_and_values`, a layer has one matrix for both. Layers share all their weights by
    `n_distinct`."""
    tied_values: bool = False
    """Whether values are the keys, projected alike (`share_kv` of the package linformer)."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout on the attention weights."""

    @model_validator(mode="after")
    def _fits(self) -> "Linformer":
        if self.rank > self.length:
            raise ValueError(
                f"rank = {self.rank} is more than length = {self.length}: nothing is compressed. "
                "Lower rank, or use attention."
            )
        if self.tied_values and self.sharing != "keys_and_values":
            raise ValueError(
                "tied_values project keys and values alike: set sharing = 'keys_and_values'."
            )
        return self

    def build(self, dim: int) -> "LinformerMixer":
        return LinformerMixer(self, dim)

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Input, q, k, v, the compressed keys and values, statistics of scores, and the output."""
        width = self.n_heads * self.width_of_head(dim)
        keys = self.kv_heads * self.width_of_head(dim)
        inside = FLOAT32_BYTES if at.cpu else at.itemsize
        compressed = 2 * keys * self.rank / at.length
        # more queries than keys: on the CPU all scores and their softmax
        scores = 2.0 * self.rank * self.n_heads * FLOAT32_BYTES
        if not at.cpu:
            mask, dropped = Mask(causal=False), self.dropout > 0
            scores = attention_saved_bytes(
                at, self.n_heads, keys=self.rank, mask=mask, dropout=dropped
            )
        numbers = dim + 2 * width + (1 if self.tied_values else 2) * keys
        return numbers * at.itemsize + compressed * inside + scores

    def flops(self, dim: int, length: int) -> float:
        """Compression, scores and weighted values; less what the weights of E and F count."""
        width = self.width_of_head(dim)
        keys = self.kv_heads * width * (1 if self.tied_values else 2)
        weights = self.rank * self.length * (self._heads_of_projection or 1)
        counted_weights = weights * (1 if self._single else 2)
        return 2.0 * self.rank * (keys + 2 * self.n_heads * width) - 2.0 * counted_weights

    @property
    def _single(self) -> bool:
        """Whether one matrix projects keys and values."""
        return self.sharing == "keys_and_values"

    @property
    def _heads_of_projection(self) -> int | None:
        """Key/value heads with projections of their own; None: they share one."""
        return self.kv_heads if self.sharing == "none" else None


class LinformerMixer(WholeSequence):
    """`(x [B, T, D], ctx) -> [B, T, D]`, bidirectional in every pass."""

    roles: ClassVar[dict[str, Role]] = {"e": "matrix", "f": "matrix"}

    def __init__(self, config: Linformer, dim: int) -> None:
        super().__init__(config, dim, kv_heads=config.n_kv_heads, values=not config.tied_values)
        self.length, self.dropout = config.length, config.dropout
        heads = config._heads_of_projection
        shape = (*([heads] if heads else []), config.rank, config.length)
        names = ("e",) if config._single else ("e", "f")
        for name in names:
            self[name] = config.rank**-0.5 * mx.random.normal(shape)

    def __call__(self, x: BTD, ctx: Context) -> BTD:
        if x.shape[1] > self.length:
            raise RunError(
                f"A sequence of {x.shape[1]} tokens is longer than mixer.length = {self.length}. "
                "Shorten it, or train a model with a larger mixer.length."
            )
        q, k = ctx.position.rotate(self._heads(self.q(x)), self._heads(self.k(x)), ctx)
        v = self._heads(self.v(x)) if "v" in self else k
        dropped = self.dropout and ctx.key is not None
        y = linformer_attention(
            q,
            k,
            v,
            self.e,
            self.get("f", self.e),
            scale=self.head_dim**-0.5,
            valid=ctx.layout.valid,
            dropout=self.dropout if dropped else 0.0,
            key=mx.stop_gradient(ctx.next_key()) if dropped else None,
        )
        return self._merge(y.astype(x.dtype))
