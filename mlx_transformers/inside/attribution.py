"""Attribution of a prediction to the tokens of a text, by gradients of its log-probability."""

from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from .predictions import best, log_probs
from .reading import Reading

STEPS, FEWEST = 24, 6
"""Points on the straight line from the baseline to the text's vectors, and the fewest of them."""
TOKENS = 3072
"""Tokens of all points together, beyond which there are fewer points."""


@dataclass(frozen=True)
class Attribution:
    """Shares of the tokens in `log p(predicted)` at one position.

    Attributes:
        position: the position that predicts.
        predicted: text of the token that it finds most probable.
        log_probability: of that token, in nats.
        input_gradient: input × gradient of each token's vector, `[T]` (Shrikumar et al. 2016).
        integrated: integrated gradients, `[T]`, whose sum is the log-probability less that of the
            baseline: the text's mean vector at each token (Sundararajan et al. 2017). Vectors of
            zeros are none, since a norm makes any vector near them a long one.
    """

    position: int
    predicted: str
    log_probability: float
    input_gradient: np.ndarray
    integrated: np.ndarray


def attribute(reading: Reading, logits: mx.array) -> Attribution:
    """Attribute the prediction at the last position, of a target the one that ends it.

    Args:
        reading: the text.
        logits: `[T, V]`, of its pass.
    """
    position = len(reading.tokens) - 1
    if reading.source and position > 0:
        position -= 1  # the last token of a target is its end
    predicted = best(logits[position])
    at = -len(reading.tokens) + position

    def score(x: mx.array) -> mx.array:
        ctx = reading.context()
        reading.embedded(ctx, len(x))  # what the layers need beside x
        return log_probs(reading.logits(x, ctx)[:, at])[:, predicted].sum()

    x = reading.embedded(reading.context()).astype(mx.float32)
    gradient = mx.grad(score)(x)
    steps = max(FEWEST, min(STEPS, TOKENS // x.shape[1]))
    middles = (mx.arange(steps) + 0.5) / steps
    base = mx.broadcast_to(x.mean(axis=1, keepdims=True), x.shape)
    path = mx.grad(score)(base + (x - base) * middles[:, None, None])
    return Attribution(
        position=position,
        predicted=reading.text(predicted),
        log_probability=float(np.array(log_probs(logits[position])[predicted])),
        input_gradient=np.array((gradient * x).sum(axis=-1)[0]),
        integrated=np.array((path.mean(axis=0) * (x - base)[0]).sum(axis=-1)),
    )
