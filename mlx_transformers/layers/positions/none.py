"""No positions (NoPE)."""

from typing import Literal

from ..kinds import PositionKind
from .position import Position


class NoPosition(PositionKind):
    """No positions (NoPE): a decoder infers order from its causal mask (Haviv et al. 2022)."""

    kind: Literal["none"] = "none"

    def build(self, dim: int, max_seq_len: int) -> Position:
        return Position()
