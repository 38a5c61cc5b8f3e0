"""Sampling: pure functions from the logits of the next token, `[B, V]`, to the token.

The order is Hugging Face's: repetition penalty, temperature, top-k, top-p, min-p, draw. Each
filter sees the renormalised output of those before it. (mlx-lm filters before the temperature.)
Everything can be compiled, and the draw of a row depends only on its key.
"""

import math
from dataclasses import dataclass

import mlx.core as mx

from ..core.errors import RunError

NO_TOKEN = -1
"""Id in slots of a history without a token, and in place of a token where logits aren't finite."""

NOT_FINITE = (
    "The model's logits are not finite numbers (NaN or infinity), so no token can be chosen. Its "
    "training diverged: use an earlier checkpoint of the run, or train again with a lower learning "
    "rate."
)
"""The error of a step whose logits are not finite."""
SMALLEST_NORMAL = 2.0**-126
"""The smallest normal float32."""


MIN_TEMPERATURE = 2.0**-100
"""Least temperature: a smaller one would make quotients overflow float32. Temperatures
far above it already give the most probable tokens all of the probability."""


def temperature(logits: mx.array, temp: float) -> mx.array:
    """`(logits - max) / temp`: below 1 sharpens the distribution, above 1 flattens it."""
    return (logits - logits.max(axis=-1, keepdims=True)) / max(temp, MIN_TEMPERATURE)


def top_k(logits: mx.array, k: int) -> mx.array:
    """Keep the k most probable tokens, and those equal to the last of them (Fan et al. 2018)."""
    if k >= logits.shape[-1]:
        return logits
    least = mx.topk(logits, k, axis=-1).min(axis=-1, keepdims=True)
    return _keep(logits, logits >= least)


def top_p(logits: mx.array, p: float) -> mx.array:
    """Keep the nucleus: the fewest tokens that hold at least p of the probability.

    Holtzman et al. 2020, equation 2. Tokens equal to the least probable of them stay too.
    """
    falling = -mx.sort(-logits, axis=-1)
    probs = mx.softmax(falling, axis=-1, precise=True)
    above = mx.cumsum(probs, axis=-1, inclusive=False)
    least = mx.where(above < p, falling, math.inf).min(axis=-1, keepdims=True)
    return _keep(logits, logits >= least)


def min_p(logits: mx.array, p: float) -> mx.array:
    """Keep tokens at least p times as probable as the most probable (Nguyen et al. 2024, 3.1)."""
    return _keep(logits, logits >= logits.max(axis=-1, keepdims=True) + math.log(p))


def repetition_penalty(logits: mx.array, history: mx.array, penalty: float) -> mx.array:
    """Make the tokens of `history [B, W]` less likely; slots that hold -1 hold no token.

    CTRL (Keskar et al. 2019), section 4.1, in the form that all implementations share: positive
    logits are divided by the penalty, negative ones multiplied.
    """
    rows, vocab_size = logits.shape
    slots = mx.where(history == NO_TOKEN, vocab_size, history)
    marks = mx.zeros((rows, vocab_size + 1), dtype=mx.bool_)
    occurred = mx.put_along_axis(marks, slots, mx.array(True), axis=1)[:, :vocab_size]
    return mx.where(occurred, mx.where(logits > 0, logits / penalty, logits * penalty), logits)


@dataclass(frozen=True)
class Sampling:
    """Options for choosing the next token.

    Attributes:
        temp: temperature; 0 takes the most probable token, 1 the model's own distribution.
        top_p: probability that the nucleus holds; 1 keeps all tokens.
        top_k: number of most probable tokens that may be drawn; 0 keeps all.
        min_p: least probability, relative to that of the most probable token; 0 keeps all.
        repetition_penalty: above 1 makes tokens that occurred less likely; 1 does nothing.
        repetition_window: number of last tokens that count as occurred; None means all.

    Raises:
        RunError: a value is outside its range.
    """

    temp: float = 0.8
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    repetition_window: int | None = None

    def __post_init__(self) -> None:
        bounds = (
            ("temp", 0 <= self.temp < math.inf, "at least 0 (0 takes the most probable token)"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1 (1 keeps all tokens)"),
            ("top_k", self.top_k >= 0, "at least 0 (0 keeps all tokens)"),
            ("min_p", 0 <= self.min_p <= 1, "from 0 to 1 (0 keeps all tokens)"),
            (
                "repetition_penalty",
                0 < self.repetition_penalty < math.inf,
                "above 0 (1 does nothing, 1.1 is a usual value)",
            ),
            (
                "repetition_window",
                self.repetition_window is None or self.repetition_window >= 1,
                "at least 1 token, or none for all of them",
            ),
        )
        for name, holds, allowed in bounds:
            if not holds:
                raise RunError(
                    f"Sampling option {name} = {getattr(self, name)} is out of range: "
                    f"it is {allowed}."
                )

    def history_size(self, context: int) -> int:
        """Number of last tokens that a draw depends on, in a context of `context` tokens."""
        if self.repetition_penalty == 1:
            return 0
        return min(self.repetition_window or context, context)


def sample(logits: mx.array, keys: mx.array, history: mx.array, sampling: Sampling) -> mx.array:
    """Draw the next token of every row, `[B]`, from `logits [B, V]`.

    Args:
        logits: of the next token; filters set those of excluded tokens to -inf.
        keys: `[B, 2]`, a PRNG key for each row.
        history: `[B, W]`, the tokens that the repetition penalty counts, -1 in unused slots.
        sampling: the options.
    """
    logits = logits.astype(mx.float32)
    if sampling.repetition_penalty != 1:
        logits = repetition_penalty(logits, history, sampling.repetition_penalty)
    if sampling.temp == 0:
        return mx.argmax(logits, axis=-1).astype(mx.int32)
    return draw(_filtered(logits, sampling), keys)


def filtered(logits: mx.array, sampling: Sampling) -> mx.array:
    """Return the logits `[B, V]` of the distribution that tokens are drawn from, without the
    repetition penalty; -inf where a token is excluded."""
    logits = logits.astype(mx.float32)
    if sampling.temp == 0:
        best = mx.argmax(logits, axis=-1, keepdims=True)
        return mx.where(mx.arange(logits.shape[-1]) == best, 0.0, -math.inf)
    return _filtered(logits, sampling)


def _filtered(logits: mx.array, sampling: Sampling) -> mx.array:
    logits = temperature(logits, sampling.temp)
    if sampling.top_k:
        logits = top_k(logits, sampling.top_k)
    if sampling.top_p < 1:
        logits = top_p(logits, sampling.top_p)
    if sampling.min_p:
        logits = min_p(logits, sampling.min_p)
    return logits


def draw(logits: mx.array, keys: mx.array) -> mx.array:
    """Sample from `softmax(logits [B, V])` by inversion of its cumulative distribution, `[B]`.

    Row r depends on `keys[r]` alone, unlike `mx.random.categorical` with one key for the batch.
    """
    uniform = mx.vmap(lambda key: mx.random.uniform(key=key))(keys)
    return inverse_cdf(exponentials(logits), uniform)


def log_probs(logits: mx.array, tokens: mx.array) -> mx.array:
    """The log-probabilities of `tokens [B]` in `softmax(logits [B, V])`, `[B]`.

    In a compiled function it shares the exponentials of `draw` from the same logits.
    """
    picked = mx.take_along_axis(logits, tokens[:, None], axis=-1)[:, 0]
    return picked - logits.max(axis=-1) - mx.log(exponentials(logits).sum(axis=-1))


def exponentials(logits: mx.array) -> mx.array:
    """`exp(logits - max)`: softmax but for its norm. Compiled functions fuse it, which on the CPU
    takes a tenth of the time of `mx.softmax`."""
    return mx.exp(logits - logits.max(axis=-1, keepdims=True))


def inverse_cdf(weights: mx.array, uniform: mx.array) -> mx.array:
    """The token `[...]` at which the cumulative sum of `weights [..., V]` reaches the share
    `uniform [...]` of the whole, from 0 to 1."""
    cumulative = mx.cumsum(weights, axis=-1)
    total = cumulative[..., -1:]
    # Above zero and at most the sum as rounded, so that a token of weight 0 is never drawn.
    threshold = mx.clip(uniform[..., None] * total, SMALLEST_NORMAL, total)
    return (cumulative < threshold).sum(axis=-1).astype(mx.int32)


def _keep(logits: mx.array, kept: mx.array) -> mx.array:
    return mx.where(kept, logits, -math.inf)
