"""Queries that grow with their position."""

import mlx.core as mx
from pydantic import Field, model_validator

from ...core.context import Context
from ...core.shapes import BHTK
from ...recipe.config import Config
from .position import Position


class Growth(Config):
    """Fields of positions whose queries grow, so that attention stays sharp in long contexts."""

    growth: float = Field(0.0, ge=0)
    """β of a factor of the queries that grows with position p, `1 + β ln(1 + ⌊p / growth_every⌋)`
    (Ministral 3, and Llama 4 in layers without positions; after Nakanishi 2025,
    "Scalable-Softmax")."""
    growth_every: int | None = Field(None, ge=1)
    """Positions between two steps of that factor."""
    growth_first: int = Field(0, ge=0, le=1)
    """p of a document's first token in that factor: 0 (Ministral 3) or 1 (Llama 4)."""

    @model_validator(mode="after")
    def _growth_has_steps(self) -> "Growth":
        if (self.growth_every is None) != (self.growth == 0):
            raise ValueError("growth and growth_every go together: set both, or neither.")
        if self.growth_every is None and self.growth_first:
            raise ValueError("growth_first has no effect without growth: set that, or unset this.")
        return self

    def grow(self, q: BHTK, position: Position, ctx: Context) -> BHTK:
        """Scale queries by the factor of their positions."""
        if self.growth_every is None:
            return q
        steps = (position.counted(q.shape[2], ctx) + self.growth_first) // self.growth_every
        size = 1 + self.growth * mx.log1p(mx.maximum(steps, 0).astype(mx.float32))
        return q * (size[:, None, :, None] if size.ndim > 1 else size[:, None]).astype(q.dtype)
