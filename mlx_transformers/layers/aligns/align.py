"""Alignments: attention scores over the source positions of a recurrent decoder, and a softmax.

    a_t(s) = softmax_s score(h_t, m_s)        c_t = Σ_s a_t(s) m_s

h_t is a decoder state, m_s the encoder output at source position s; Bahdanau et al. 2015,
equations 5 and 6.
"""

from functools import partial

import mlx.core as mx
import mlx.nn as nn

from ...core.footprint import FLOAT32_BYTES, ActivationShape
from ...core.shapes import BS_, BTD, BTS
from ...ops.recurrent_matmul import recurrent_matmul_naive
from ..kinds import AlignKind, Project

MASKED = -1e30
"""The score of a masked position: finite, and far below any other in float32."""


class Align(AlignKind):
    """Shared part of the alignment kinds."""

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Scores and weights, of a source as long as the target."""
        return 3.0 * at.length * FLOAT32_BYTES

    def flops(self, dim: int, length: int) -> float:
        """A score of a query and a key of width D, and the weighted mean."""
        return 4.0 * dim * length


class AlignModule(nn.Module):
    """`(h [B, T, D], keys, valid, offset) -> weights [B, T, S]`, each row's sum 1.

    A kind defines the keys of the memory (`make_keys`, once for all queries), the projection of
    queries (`query`), and the score of a query and a key (`score`).
    """

    @property
    def query(self) -> mx.array | None:
        """The weight `[A, D]` that projects queries; None: no projection."""
        return None

    def make_keys(self, memory: mx.array) -> mx.array:
        """Keys `[B, S, A]` of a memory `[B, S, D]`."""
        return memory

    def score(self, query: mx.array, keys: mx.array) -> mx.array:
        """Scores `[B, T, S]` of projected queries `[B, T, A]` and keys `[B, S, A]`."""
        raise NotImplementedError(f"{type(self).__name__} has no score.")

    def scores(self, h: mx.array, keys: mx.array, project: Project | None = None) -> mx.array:
        """Scores in float32; `project` replaces the projection of queries in loops."""
        if project is None and self.query is not None:
            project = partial(recurrent_matmul_naive, weight=self.query)
        return self.score(h if project is None else project(h), keys).astype(mx.float32)

    def __call__(
        self,
        h: BTD,
        keys: BS_,
        valid: mx.array | None = None,
        offset: mx.array | int = 0,
        project: Project | None = None,
    ) -> BTS:
        """Return the weights.

        Args:
            h: states `[B, T, D]`.
            keys: `[B, S, A]`, from `make_keys`.
            valid: `[B, S]`, False on padding; None: no padding.
            offset: position of the first of the T states in the target.
            project: the projection of queries in a form for loops; None: the module's own.
        """
        scores = self.scores(h, keys, project)
        if valid is not None:
            scores = mx.where(valid[:, None], scores, MASKED)
        return mx.softmax(scores, axis=-1).astype(h.dtype)
