"""LoRA: a trained low-rank update of frozen weights."""

from typing import Literal

from .low_rank import LowRank, LowRankKind
from .switch import Adaptation
from .targets import Target


class Lora(LowRankKind):
    """Low-rank updates: `y = W x + s B A x` with `s = alpha / R`.

    Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", section 4.1. Over a base
    of `base_bits` this is QLoRA (Dettmers et al. 2023).
    """

    kind: Literal["lora"] = "lora"

    def update(self, target: Target, shape: tuple[int, ...], adaptation: Adaptation) -> LowRank:
        return LowRank(shape, self.rank_of(target), self.factor_of(target), self.dropout)
