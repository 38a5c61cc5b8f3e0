"""Axial position embeddings (Reformer)."""

import math
from typing import ClassVar, Literal

import mlx.core as mx
from pydantic import Field, model_validator

from ...core.context import Context
from ...core.errors import RecipeError, RunError
from ...core.shapes import BTD
from ...ops.lookup import lookup
from ..kinds import PositionKind
from ..parameter import Role
from .position import Position

MOST_AXES = 8


class Axial(PositionKind):
    """Learned positions as places in a grid, each axis with a table of its own.

    A position p is a number whose digits are its places, the last axis fastest: with two axes
    `[t1[p // n2]; t2[p mod n2]]`, from `n1 w1 + n2 w2` numbers in place of `n1 n2 (w1 + w2)`.
    Kitaev et al. 2020 (Reformer), section 5, after Ho et al. 2019 (Axial Transformers).
    """

    kind: Literal["axial"] = "axial"
    shape: tuple[int, ...] = Field(min_length=1, max_length=MOST_AXES)
    """Places on each axis; their product is the number of positions."""
    widths: tuple[int, ...]
    """Features of each axis, which together are as wide as the embeddings."""
    std: float = Field(1.0, gt=0)
    """Standard deviation of the tables' start."""

    @model_validator(mode="after")
    def _axes_agree(self) -> "Axial":
        if len(self.shape) != len(self.widths) or min((*self.shape, *self.widths), default=0) < 1:
            raise ValueError(
                f"shape = {list(self.shape)} and widths = {list(self.widths)} must name the same "
                "axes, each with at least one place and one feature."
            )
        return self

    def build(self, dim: int, max_seq_len: int) -> "AxialPosition":
        if sum(self.widths) != dim:
            raise RecipeError(
                f"position.widths add up to {sum(self.widths)}, and embeddings are {dim} wide: "
                "change position.widths."
            )
        if math.prod(self.shape) < max_seq_len:
            raise RecipeError(
                f"position.shape has {math.prod(self.shape)} places, fewer than model.max_seq_len "
                f"= {max_seq_len}. Make an axis longer, or lower model.max_seq_len."
            )
        return AxialPosition(self)


class AxialPosition(Position):
    """`x + [table_0[place_0]; table_1[place_1]; ...]`."""

    roles: ClassVar[dict[str, Role]] = {f"table_{i}": "vector" for i in range(MOST_AXES)}

    def __init__(self, config: Axial) -> None:
        super().__init__()
        self.grid = config.shape
        for i, (n, width) in enumerate(zip(config.shape, config.widths, strict=True)):
            self[f"table_{i}"] = config.std * mx.random.normal((n, width))

    def embed(self, x: BTD, ctx: Context) -> BTD:
        self.admit(x.shape[1])
        place = mx.maximum(self.positions(x.shape[1], ctx), 0)
        parts: list[mx.array] = []
        for i in reversed(range(len(self.grid))):
            parts.insert(0, lookup(self[f"table_{i}"], place % self.grid[i]))
            place = place // self.grid[i]
        return x + mx.concatenate(parts, axis=-1).astype(x.dtype)

    def admit(self, length: int) -> None:
        room = math.prod(self.grid)
        if length > room:
            raise RunError(
                f"A sequence of {length} tokens has no axial positions beyond {room} (the product "
                "of position.shape). Shorten it, or train a model with a longer axis."
            )
