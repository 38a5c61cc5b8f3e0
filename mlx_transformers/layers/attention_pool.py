"""Slot `pool`: attention by one learned query, as SigLIP's vision tower has it."""

import math
from typing import Annotated, ClassVar, Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field

from ..core.context import Context
from ..core.errors import RecipeError
from ..ops.activations import ACTIVATIONS
from ..ops.attention import attention
from ..ops.masks import Mask
from ..recipe.slot import Slot
from .ffns.mlp import Activation
from .kinds import NormKind, PoolKind
from .linear import ResidualLinear
from .parameter import Role


class AttentionPool(PoolKind):
    """A learned query that attends to a sequence: `y + mlp(norm(y))`, `y = attention(query, x)`.

    Set Transformer (Lee et al. 2019), section 3.2; the head of SigLIP (Zhai et al. 2023) and of
    scaled vision transformers (Zhai et al. 2022, section 3.2).
    """

    kind: Literal["attention"] = "attention"
    n_heads: int = Field(ge=1)
    """Heads of the attention."""
    hidden_dim: int = Field(ge=1)
    """Width of the network after it."""
    activation: Activation
    """Activation of that network."""
    norm: Annotated[NormKind, Slot("norm")]
    """Normalisation in front of that network."""

    def build(self, dim: int) -> "AttentionPoolModule":
        if dim % self.n_heads:
            raise RecipeError(
                f"pool.n_heads = {self.n_heads} does not divide model.dim = {dim}. Choose a "
                "divisor."
            )
        return AttentionPoolModule(self, dim)


class AttentionPoolModule(nn.Module):
    """`(x [B, T, D], ctx) -> [B, D]`."""

    roles: ClassVar[dict[str, Role]] = {"query": "vector"}

    def __init__(self, config: AttentionPool, dim: int) -> None:
        super().__init__()
        self.n_heads = config.n_heads
        self.query = 0.02 * mx.random.normal((dim,))
        self.q, self.k, self.v = (nn.Linear(dim, dim) for _ in range(3))
        self.o = ResidualLinear(dim, dim)
        self.norm = config.norm.build(dim)
        self.up = nn.Linear(dim, config.hidden_dim)
        self.down = ResidualLinear(config.hidden_dim, dim)
        self.activation = ACTIVATIONS[config.activation]

    def __call__(self, x: mx.array, ctx: Context) -> mx.array:
        B, _, D = x.shape
        query = mx.broadcast_to(self.query.astype(x.dtype), (B, 1, D))
        q, k, v = (self._heads(y) for y in (self.q(query), self.k(x), self.v(x)))
        mask = Mask(causal=False, valid=ctx.layout.valid)
        y = attention(q, k, v, scale=1 / math.sqrt(D // self.n_heads), mask=mask)
        h = self.o(y.transpose(0, 2, 1, 3).reshape(B, D))
        return h + self.down(self.activation(self.up(self.norm(h))))

    def _heads(self, y: mx.array) -> mx.array:
        return y.reshape(*y.shape[:2], self.n_heads, -1).transpose(0, 2, 1, 3)
