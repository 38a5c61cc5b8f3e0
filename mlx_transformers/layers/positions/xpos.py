"""xPos: rotary positions with decay."""

from typing import Any, Literal

import mlx.core as mx
import numpy as np
from pydantic import Field

from ...core.context import Context
from ...core.shapes import BGTK, BHTK
from ..kinds import PositionKind
from .position import Position
from .rope import Rope, RopePosition


class Xpos(PositionKind):
    """xPos: rotary positions whose pairs also decay with distance, the fast ones most.

    Pair i of a query at t is multiplied by `z_i^(t/base)`, of a key at s by `z_i^(-s/base)`, with
    `z_i = (2i/K + gamma) / (1 + gamma)`, so that a score has `z_i^((t - s)/base)`; Sun et al. 2022
    ("A Length-Extrapolatable Transformer"), algorithm 1. It is meant for causal attention: the
    score of a key ahead grows. Positions are counted from the middle of `max_seq_len`, which
    changes no score but halves the exponents: float16 suffices for about 9,000 tokens.
    """

    kind: Literal["xpos"] = "xpos"
    theta: float = Field(10000.0, gt=1)
    """Base of the wavelengths."""
    traditional: bool = False
    """Whether neighbouring features form a pair, as in the paper."""
    gamma: float = Field(0.4, gt=0)
    """Evenness of the decay: the larger, the less fast and slow pairs differ."""
    base: float = Field(512.0, gt=0)
    """Tokens over which pair i decays by z_i."""

    def build(self, dim: int, max_seq_len: int) -> "XposPosition":
        return XposPosition(self, max_seq_len)


class XposPosition(Position):
    """Rotates queries and keys, then scales them inversely, without parameters."""

    def __init__(self, config: Xpos, max_seq_len: int) -> None:
        super().__init__()
        self.config, self.middle = config, max_seq_len / 2
        rope = Rope(theta=config.theta, traditional=config.traditional)
        self.rope = RopePosition(rope)

    def rotate(self, q: BHTK, k: BGTK, ctx: Context) -> tuple[BHTK, BGTK]:
        q, k = self.rope.rotate(q, k, ctx)
        place: Any = ctx.layout.positions
        if place is None:
            place = mx.arange(q.shape[2]) + ctx.cursor.offset
        exponent = (place.astype(mx.float32) - self.middle)[..., None] / self.config.base
        power = exponent * mx.array(self._logarithms(q.shape[-1]), dtype=mx.float32)
        if power.ndim == 3:
            power = power[:, None]
        decay, growth = mx.exp(power), mx.exp(-power)
        return (q * decay).astype(q.dtype), (k * growth).astype(k.dtype)

    def _logarithms(self, head_dim: int) -> np.ndarray:
        """`log z` of each feature `[K]`; an odd last feature is neither rotated nor scaled."""
        pairs = head_dim // 2
        gamma = self.config.gamma
        log = np.log((np.arange(pairs) / pairs + gamma) / (1 + gamma))
        both = np.repeat(log, 2) if self.config.traditional else np.tile(log, 2)
        return np.append(both, np.zeros(head_dim - 2 * pairs))
