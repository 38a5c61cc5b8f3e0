"""Fidelity of a changed model to its source on held-out text: KL divergence and changed argmax."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from ..models.model import Model
from ..ops.distillation import kl, log_softmax
from .capture import logits_of

BOUND = 0.5
"""Nats per token of KL divergence, beyond which a result isn't written unless it is asked for."""


@dataclass(frozen=True)
class Fidelity:
    """Differences of a model from its source.

    Attributes:
        kl: KL divergence of its next tokens from the source's, nats per token.
        changed: share of tokens whose most probable successor is another.
        loss_before: loss of the source, nats per token.
        loss_after: loss of the model.
        tokens: how many tokens were read.
    """

    kl: float
    changed: float
    loss_before: float
    loss_after: float
    tokens: int

    def line(self) -> str:
        """Return the figures as a line."""
        before, after = (math.exp(min(x, 700)) for x in (self.loss_before, self.loss_after))
        return (
            f"KL from the source {self.kl:.4f} nats per token, most probable token changed at "
            f"{self.changed:.1%}, perplexity {before:.3f} -> {after:.3f} ({self.tokens:,} tokens)"
        )

    @property
    def ok(self) -> bool:
        """Whether the model is near its source; NaN is not."""
        return self.kl <= BOUND


def compare(source: Model, model: Model, rows: Sequence[mx.array]) -> Fidelity:
    """Compare two models on batches of rows `[B, T + 1]`."""
    sums = mx.zeros((4,))
    for tokens in rows:
        inputs, targets = tokens[:, :-1], tokens[:, 1:]
        before, after = (log_softmax(logits_of(each, inputs)) for each in (source, model))
        own = [
            -mx.take_along_axis(each, targets[..., None], axis=-1).sum() for each in (before, after)
        ]
        changed = (mx.argmax(before, axis=-1) != mx.argmax(after, axis=-1)).sum()
        parts = [kl(before, after).sum(), changed.astype(mx.float32), *own]
        sums = sums + mx.stack(parts)
        mx.eval(sums)
    n = sum(tokens.shape[0] * (tokens.shape[1] - 1) for tokens in rows)
    divergence, changed_share, loss_before, loss_after = (float(x) / n for x in np.array(sums))
    return Fidelity(divergence, changed_share, loss_before, loss_after, n)
