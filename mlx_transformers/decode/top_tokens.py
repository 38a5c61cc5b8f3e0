"""Log-probabilities of drawn tokens and of the most probable ones, step by step."""

from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from .engine import Engine, Observe, Observed


@dataclass(frozen=True)
class TokenLogprob:
    """A drawn token.

    Attributes:
        token: its id.
        logprob: its log-probability in nats, of the model without temperature and filters.
        top: the most probable ids with their log-probabilities, falling.
    """

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


def top_tokens(n: int) -> Observe:
    """Return an observer of the drawn tokens' log-probabilities and the n most probable tokens."""

    def observe(logits: mx.array, tokens: mx.array) -> Observed:
        logits = logits.astype(mx.float32)
        logps = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
        drawn = mx.maximum(tokens, 0)[:, None]
        best = mx.argsort(-logps, axis=-1)[:, :n]
        return {
            "logprob": mx.take_along_axis(logps, drawn, axis=-1)[:, 0],
            "top": best,
            "top_logprob": mx.take_along_axis(logps, best, axis=-1),
        }

    return observe


def observed_tokens(engine: Engine, tokens: list[int]) -> list[TokenLogprob]:
    """Return the log-probabilities of the tokens that an engine with `top_tokens` drew last."""
    arrays = engine.observed
    top, top_logps = (np.array(arrays[name]) for name in ("top", "top_logprob"))
    best = zip(top.tolist(), top_logps.tolist(), strict=True)
    pairs = [
        tuple((int(i), float(p)) for i, p in zip(ids, logps, strict=True)) for ids, logps in best
    ]
    logps = [float(value) for value in np.array(arrays["logprob"])]
    return [
        TokenLogprob(token, logp, top)
        for token, logp, top in zip(tokens, logps, pairs, strict=True)
    ]
