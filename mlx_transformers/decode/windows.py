"""Log-likelihoods of given texts: windows of tokens, scored by a model many at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import mlx.core as mx

from ..models.model import Decodable

ROWS = 8
"""Windows that are read at once."""


@dataclass(frozen=True)
class Window:
    """Tokens that the model reads at once; the last `scored` of them are scored."""

    tokens: list[int]
    scored: int


class WindowScore(NamedTuple):
    """The log-probability of a window's scored tokens in nats, whether each of them is the most
    probable one, and how many tokens have one before them to be predicted from."""

    loglikelihood: float
    is_greedy: bool
    n_tokens: int


def continuation_window(
    context: Sequence[int], continuation: Sequence[int], longest: int
) -> Window:
    """The window that scores a continuation, with as much context as `longest` inputs allow."""
    return Window([*context, *continuation][-longest - 1 :], len(continuation))


def rolling_windows(
    before: Sequence[int], tokens: Sequence[int], longest: int, context: int = 1
) -> list[Window]:
    """Cut a text into windows that score each token once.

    Args:
        before: tokens that the first ones are conditioned on, not scored.
        tokens: the text.
        longest: tokens of input that the model reads.
        context: the least number of tokens before a window's first scored one, but in the first
            window; 1 makes the scored parts disjoint and as long as possible.
    """
    sequence, done = [*before, *tokens], len(before)
    # Without a token before it, the first one is read and not scored.
    end, windows = longest + 1, []
    while done < len(sequence):
        end = min(end, len(sequence))
        windows.append(Window(sequence[max(0, end - longest - 1) : end], end - done))
        done, end = end, end + longest - context + 1
    return windows


def strided_windows(tokens: Sequence[int], longest: int, stride: int) -> list[Window]:
    """Windows of `longest` tokens that begin every `stride`, each scoring those that no earlier one
    has; where the stride is shorter, they have that much more context.

    The sliding windows of transformers' documentation ("Perplexity of fixed-length models").
    """
    windows, done = [], 0
    for start in range(0, len(tokens), stride):
        end = min(start + longest, len(tokens))
        windows.append(Window(list(tokens[start:end]), min(end - done, end - start)))
        done = end
        if end == len(tokens):
            break
    return windows


def score_windows(
    model: Decodable, windows: Sequence[Window], rows: int = ROWS
) -> list[WindowScore]:
    """Score windows, those of similar length together, at most `rows` at once."""
    order = sorted(range(len(windows)), key=lambda i: -len(windows[i].tokens))
    scores: dict[int, WindowScore] = {}
    for start in range(0, len(order), rows):
        numbers = order[start : start + rows]
        scores |= zip(numbers, _scored(model, [windows[i] for i in numbers]), strict=True)
    return [scores[i] for i in range(len(windows))]


def _scored(model: Decodable, windows: list[Window]) -> Iterator[WindowScore]:
    width = max(len(window.tokens) for window in windows)
    if width < 2:
        yield from [WindowScore(0.0, True, 0)] * len(windows)
        return
    # Padding on the right changes nothing before it in a causal model.
    padded = [window.tokens + [0] * (width - len(window.tokens)) for window in windows]
    tokens = mx.array(padded, dtype=mx.int32)
    logits = model(tokens[:, :-1]).astype(mx.float32)
    targets = tokens[:, 1:, None]
    log_p = mx.take_along_axis(logits, targets, axis=-1)[..., 0] - mx.logsumexp(logits, axis=-1)
    most_probable = logits.argmax(axis=-1) == targets[..., 0]
    for i, window in enumerate(windows):
        end = len(window.tokens) - 1
        scored = slice(max(0, end - window.scored), end)
        yield WindowScore(
            float(log_p[i, scored].sum()),
            bool(most_probable[i, scored].all()),
            scored.stop - scored.start,
        )
