"""Two mixers on one input, whose outputs are added."""

from typing import Annotated, Literal

import mlx.core as mx
import mlx.nn as nn

from ...core.context import Context
from ...core.footprint import ActivationShape
from ...core.shapes import BTD
from ...recipe.slot import Slot
from ..kinds import MixerKind, ScoreBias, State, joint_score_bias


class SideBySide(MixerKind):
    """`y = first(x) + second(x)`: a state space and attention in one layer, as in Falcon-H1.

    Zuo et al. 2025 ([arXiv:2507.22448](https://arxiv.org/abs/2507.22448)), section 2; before it
    Hymba (Dong et al. 2024). One norm feeds both.
    """

    kind: Literal["side_by_side"] = "side_by_side"
    first: Annotated[MixerKind, Slot("mixer")]
    """One mixer."""
    second: Annotated[MixerKind, Slot("mixer")]
    """The other."""

    @property
    def score_bias(self) -> ScoreBias:
        """The score bias of both together: one that refuses decides, then one that adds."""
        return joint_score_bias(self.first, self.second)

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Bytes of both mixers, which share their input."""
        both = self.first.saved_bytes(dim, at) + self.second.saved_bytes(dim, at)
        return both - dim * at.itemsize

    def backward_bytes(self, dim: int, at: ActivationShape) -> float:
        """The larger of both, whose backwards run one after the other."""
        return max(self.first.backward_bytes(dim, at), self.second.backward_bytes(dim, at))

    def flops(self, dim: int, length: int) -> float:
        """Products of both mixers."""
        return self.first.flops(dim, length) + self.second.flops(dim, length)

    def build(self, dim: int) -> "SideBySideMixer":
        return SideBySideMixer(self, dim)


class SideBySideMixer(nn.Module):
    """`(x [B, T, D], ctx) -> [B, T, D]`; the decode state has those of `first` and `second`."""

    def __init__(self, config: SideBySide, dim: int) -> None:
        super().__init__()
        self.first, self.second = config.first.build(dim), config.second.build(dim)

    def __call__(self, x: BTD, ctx: Context) -> BTD:
        return self.first(x, ctx) + self.second(x, ctx)

    def init_state(self, batch: int, length: int, dtype: mx.Dtype) -> State:
        """The states of both."""
        return {
            "first": self.first.init_state(batch, length, dtype),
            "second": self.second.init_state(batch, length, dtype),
        }

    def step(self, x: BTD, state: State, ctx: Context) -> tuple[BTD, State]:
        """Continue by the T tokens of `x`."""
        first, first_state = self.first.step(x, state["first"], ctx)
        second, second_state = self.second.step(x, state["second"], ctx)
        return first + second, {"first": first_state, "second": second_state}
