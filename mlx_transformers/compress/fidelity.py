"""Fidelity of a changed model to its source: KL divergence, changed argmax, perplexity."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from ..models.model import Model
from ..ops.distillation import kl, log_softmax
from .capture import logits_of


@dataclass(frozen=True)
class Bounds:
    """Largest differences from the source with which a changed model is written.

    Attributes:
        kl: KL divergence, nats per token.
        changed: share of tokens whose most probable successor is another.
    """

    kl: float
    changed: float = 1.0

    def __str__(self) -> str:
        share = f" and {self.changed:.0%} of the tokens" if self.changed < 1 else ""
        return f"{self.kl:g} nats per token{share}"


LOSSY = Bounds(0.5)
"""Bounds for changes that may increase the loss: quantization, pruning, growth."""
FAITHFUL = Bounds(0.02, 0.05)
"""Bounds for changes that should not change the model: merged adapters, exports."""


@dataclass(frozen=True)
class Fidelity:
    """Differences of a model from its source.

    Attributes:
        kl: KL divergence of its next tokens from the source's, nats per token.
        changed: share of tokens whose most probable successor is another.
        loss_before: loss of the source, nats per token.
        loss_after: loss of the model.
        tokens: number of tokens compared.
        text: whether they are text; random tokens have no meaningful loss.
    """

    kl: float
    changed: float
    loss_before: float
    loss_after: float
    tokens: int
    text: bool = True

    def line(self) -> str:
        """Return the figures as a line."""
        before, after = (math.exp(min(x, 700)) for x in (self.loss_before, self.loss_after))
        perplexity = f", perplexity {before:.3f} -> {after:.3f}" if self.text else ""
        kl = max(self.kl, 0.0)  # rounding takes that of equal models below zero
        return (
            f"KL from the source {kl:.4f} nats per token, most probable token changed at "
            f"{self.changed:.1%}{perplexity} ({self.tokens:,} {'' if self.text else 'random '}"
            "tokens)"
        )

    def within(self, bounds: Bounds) -> bool:
        """Whether the model is near its source; NaN is not."""
        return self.kl <= bounds.kl and self.changed <= bounds.changed


def compare(
    source: Model, model: Model, rows: Sequence[mx.array], *, text: bool = True
) -> Fidelity:
    """Compare two models on batches of rows `[B, T + 1]`, of text or of random tokens."""
    sums, n = mx.zeros((4,)), 0
    predicts = source.unembedding() is not None
    for tokens in rows:
        inputs, targets = tokens[:, :-1], tokens[:, 1:]
        before, after = (log_softmax(logits_of(subject, inputs)) for subject in (source, model))
        losses = [
            _loss(subject, targets) if predicts else mx.zeros(()) for subject in (before, after)
        ]
        changed = (mx.argmax(before, axis=-1) != mx.argmax(after, axis=-1)).sum()
        parts = [kl(before, after).sum(), changed.astype(mx.float32), *losses]
        sums = sums + mx.stack(parts)
        n += before.size // before.shape[-1]
        mx.eval(sums)
    divergence, changed_share, loss_before, loss_after = (float(x) / n for x in np.array(sums))
    return Fidelity(divergence, changed_share, loss_before, loss_after, n, text and predicts)


def _loss(log_probs: mx.array, targets: mx.array) -> mx.array:
    """The summed negative log-probability of targets `[B, T]`."""
    return -mx.take_along_axis(log_probs, targets[..., None], axis=-1).sum()
