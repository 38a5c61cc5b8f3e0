"""Product-key memory: a large table of values, of which each token reads a few."""

from typing import Annotated, ClassVar, Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field, model_validator

from ...core.context import Context
from ...core.footprint import FLOAT32_BYTES, ActivationShape
from ...core.shapes import BTD
from ...ops.lookup import lookup
from ...ops.product_keys import best_keys
from ...recipe.slot import Slot
from ..kinds import FfnKind, NormKind
from ..norms import LayerNorm
from ..parameter import Role


class ProductKeys(FfnKind):
    """Product-key memory: `Σ_i softmax(q · k_i) v_i` over the best `top_k` of N² keys, by heads.

    Lample et al. 2019, "Large Memory Layers with Product Keys"
    ([arXiv:1907.05242](https://arxiv.org/abs/1907.05242)), section 3. A key is a pair of half keys,
    so that the best of N² are found by 2 N products. The paper normalises queries over the batch;
    here each is normalised by itself, as in the package product-key-memory.
    """

    kind: Literal["product_keys"] = "product_keys"
    n_heads: int = Field(4, ge=1)
    """Heads H: queries of a token, with keys of their own. They share the values."""
    n_keys: int = Field(128, ge=1)
    """Half keys N of each of the two tables; the memory has N² values of width dim."""
    top_k: int = Field(32, ge=1)
    """Values that a head reads; at most N."""
    key_dim: int = Field(64, ge=1)
    """Width K of a half key."""
    norm: Annotated[NormKind, Slot("norm")] = LayerNorm()
    """Normalisation of the halves of the queries."""

    @model_validator(mode="after")
    def _enough_keys(self) -> "ProductKeys":
        if self.top_k > self.n_keys:
            raise ValueError(
                f"top_k = {self.top_k} is more than n_keys = {self.n_keys}: the best pairs are "
                "looked for among the best halves. Lower top_k or raise n_keys."
            )
        return self

    def build(self, dim: int) -> "ProductKeysFfn":
        return ProductKeysFfn(self, dim)

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Input, queries, scores and their order, and the values read."""
        halves = 2 * self.n_heads
        norms = halves * self.norm.saved_bytes(self.key_dim, at)
        chosen = self.n_heads * self.top_k
        read = chosen * (dim * at.itemsize + 4 * FLOAT32_BYTES)
        return dim * at.itemsize + norms + halves * self.key_dim * at.itemsize + read

    def flops(self, dim: int, length: int) -> float:
        """The values that are read; keys count as weights."""
        return 2.0 * self.n_heads * self.top_k * dim


class ProductKeysFfn(nn.Module):
    """`(x [B, T, D], ctx) -> [B, T, D]`, of each token alone."""

    roles: ClassVar[dict[str, Role]] = {"half_keys": "matrix"}

    def __init__(self, config: ProductKeys, dim: int) -> None:
        super().__init__()
        self.top_k = config.top_k
        halves = (2, config.n_heads, config.n_keys, config.key_dim)
        self.q = nn.Linear(dim, 2 * config.n_heads * config.key_dim, bias=False)
        self.norm = config.norm.build(config.key_dim)
        self.half_keys = mx.random.normal(halves) * config.key_dim**-0.5
        self.memory = nn.Embedding(config.n_keys**2, dim)

    def __call__(self, x: BTD, ctx: Context) -> BTD:
        halves, n_heads, _, key_dim = self.half_keys.shape
        q = self.norm(self.q(x).reshape(-1, halves, n_heads, key_dim)).transpose(1, 2, 0, 3)
        first, second = (q @ self.half_keys.astype(q.dtype).swapaxes(-1, -2)).astype(mx.float32)
        scores, rows = best_keys(first, second, self.top_k)
        weights = mx.softmax(scores, axis=-1).astype(x.dtype)
        read = lookup(self.memory.weight, rows)
        return (weights[..., None, :] @ read).squeeze(-2).sum(axis=0).reshape(x.shape)
