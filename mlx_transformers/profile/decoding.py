"""Decoding by length of context: reading a prompt, generating, and what memory would allow."""

import time
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from ..decode.cache_size import state_bytes
from ..decode.engine import CHUNK, Engine, dtype, slots
from ..decode.sample import Sampling
from ..layers.counts import count
from .timing import Spread

GENERATED = 24
"""Tokens that a speed of generation is measured on, at most half of the context."""


@dataclass(frozen=True)
class Decoding:
    """One greedy row that ends at a context of `context` tokens.

    Attributes:
        prompt_tokens_per_s: tokens of the prompt by the time to read them.
        tokens_per_s: generated tokens per second, compilation left out.
        cache_bytes: the decode state, with its free slots.
        token_bytes: what one token must read: the weights that it meets, and the state.
        roofline_tokens_per_s: tokens per second if reading these at the copy's speed were all.
    """

    context: int
    prompt_tokens_per_s: Spread
    tokens_per_s: Spread
    cache_bytes: int
    token_bytes: int
    roofline_tokens_per_s: float

    @property
    def roofline_share(self) -> float:
        """How much of the roofline generation reaches."""
        return self.tokens_per_s.median / self.roofline_tokens_per_s


def contexts(max_seq_len: int) -> list[int]:
    """An eighth of the context, then doubling up to all of it; each has room for two tokens."""
    return [length for length in (max_seq_len // 2**i for i in (3, 2, 1, 0)) if length >= 4]


def decodings(model: Any, copy_bytes_per_s: float, rounds: int) -> list[Decoding]:
    """The decoding speeds at every context, measured in turns."""
    lengths = contexts(model.max_seq_len)
    read: dict[int, list[float]] = {length: [] for length in lengths}
    made: dict[int, list[float]] = {length: [] for length in lengths}
    for number in range(rounds + 1):
        for length in lengths:
            prompt, generation = _speeds(model, length)
            if number:  # the first round compiles
                read[length].append(prompt)
                made[length].append(generation)
    found = []
    for length in lengths:
        state = state_bytes(model.init_state(1, slots(length, model.max_seq_len), dtype(model)))
        moved = _weight_bytes(model) + state
        best = copy_bytes_per_s / moved
        speeds = Spread.of(read[length]), Spread.of(made[length])
        found.append(Decoding(length, *speeds, state, moved, best))
    return found


def _speeds(model: Any, length: int) -> tuple[float, float]:
    """Tokens per second of reading a prompt, and of generating up to `length` after it."""
    new = max(2, min(GENERATED, length // 2))
    prompt = [1 % model.vocab_size] * (length - new)
    state = model.init_state(1, slots(length, model.max_seq_len), dtype(model))
    started = time.perf_counter()
    for first in range(0, len(prompt), CHUNK):
        _, state = model.step(mx.array([prompt[first : first + CHUNK]]), state)
        mx.eval(state)
    reading = len(prompt) / (time.perf_counter() - started)
    tokens = Engine(model, prompt, sampling=Sampling(temp=0.0)).tokens(new)
    next(tokens)
    started = time.perf_counter()
    made = sum(1 for _ in tokens)
    return reading, made / (time.perf_counter() - started)


def _weight_bytes(model: Any) -> int:
    """Bytes of the weights that one token meets; tables that are only looked up are left out."""
    counts = count(model)
    held = sum(value.nbytes for _, value in tree_flatten(model.parameters()))
    return round(held * (counts.active - counts.embedding) / counts.total)
