"""What every alignment shares: scores of the source's positions, and a softmax over them.

    a_t(s) = softmax_s score(h_t, m_s)        c_t = Σ_s a_t(s) m_s

h_t is a state of the decoder, m_s what the encoder made of the source at s; Bahdanau et al. 2015,
equations 5 and 6.
"""

from functools import partial

import mlx.core as mx
import mlx.nn as nn

from ...core.footprint import FLOAT32_BYTES, ActivationShape
from ...ops.recall import recall_naive
from ..kinds import AlignKind, Project

HIDDEN = -1e30
"""What stands for minus infinity in float32: far below any score, and finite."""


class Align(AlignKind):
    """A table that fills the slot `align`."""

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Bytes per query that are kept: scores and weights, over sources as long as targets."""
        return 3.0 * at.length * FLOAT32_BYTES


class AlignModule(nn.Module):
    """`(h [B, T, D], keys, valid, offset) -> weights [B, T, S]`, each row's sum 1.

    A kind says what is made of the memory once for all queries (`make_keys`), what of each query
    (`query`), and how the two are compared (`score`).
    """

    @property
    def query(self) -> mx.array | None:
        """The weight `[A, D]` of the map of the queries; None leaves them as they are."""
        return None

    def make_keys(self, memory: mx.array) -> mx.array:
        """What queries are compared with, `[B, S, A]`, of a memory `[B, S, D]`."""
        return memory

    def score(self, asked: mx.array, keys: mx.array) -> mx.array:
        """`[B, T, S]` from mapped queries `[B, T, A]` and keys `[B, S, A]`."""
        raise NotImplementedError(f"{type(self).__name__} has no score.")

    def scores(self, h: mx.array, keys: mx.array, ask: Project | None = None) -> mx.array:
        """The scores in float32; `ask` is the map of the queries in a form for loops."""
        if ask is None and self.query is not None:
            ask = partial(recall_naive, weight=self.query)
        return self.score(h if ask is None else ask(h), keys).astype(mx.float32)

    def __call__(
        self,
        h: mx.array,
        keys: mx.array,
        valid: mx.array | None = None,
        offset: mx.array | int = 0,
        ask: Project | None = None,
    ) -> mx.array:
        """The weights.

        Args:
            h: states `[B, T, D]`.
            keys: as `make_keys` made them of the memory.
            valid: `[B, S]`, which source tokens exist; None means all.
            offset: position of the first of the T states in the target.
            ask: the map of the queries in a form for loops; None takes the module's own.
        """
        scores = self.scores(h, keys, ask)
        if valid is not None:
            scores = mx.where(valid[:, None], scores, HIDDEN)
        return mx.softmax(scores, axis=-1).astype(h.dtype)
