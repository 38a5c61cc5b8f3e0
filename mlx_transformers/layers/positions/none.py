"""No positions (NoPE)."""

from typing import Literal

from ...core.context import Context
from ...core.shapes import BGTK, BHTK
from ..kinds import PositionKind
from .growth import Growth
from .position import Position


class NoPosition(Growth, PositionKind):
    """No positions (NoPE): a decoder infers order from its causal mask (Haviv et al. 2022)."""

    kind: Literal["none"] = "none"

    def build(self, dim: int, max_seq_len: int) -> Position:
        return Position() if self.growth_every is None else GrowingQueries(self)


class GrowingQueries(Position):
    """Scales queries by their positions, and encodes no positions otherwise."""

    def __init__(self, config: NoPosition) -> None:
        super().__init__()
        self.config = config

    def rotate(self, q: BHTK, k: BGTK, ctx: Context) -> tuple[BHTK, BGTK]:
        return self.config.grow(q, self, ctx), k
