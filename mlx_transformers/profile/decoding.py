"""Decoding speed by context length and batch size, compared with the limit of memory bandwidth."""

import time
from dataclasses import dataclass
from itertools import product

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from ..decode.cache_size import state_bytes
from ..decode.engine import CHUNK, Engine, dtype, slots
from ..decode.sample import Sampling
from ..layers.counts import count
from ..models.model import Decodable, Model, causal_decoder
from .timing import Spread

GENERATED = 24
"""Tokens over which the speed of generation is measured, at most half of the context."""

BATCH = 32
"""Sequences that are generated together, beside one alone."""

ENDLESS = 2**19
LONGEST = 512
"""Context up to which a model is measured whose own is above `ENDLESS` (recurrent models)."""


DECODE_TOKENS = 128
"""Tokens of `decode_speed`, fewer where the context is shorter."""


@dataclass(frozen=True)
class Decoding:
    """Greedy decoding of `batch` rows up to a context of `context` tokens.

    Attributes:
        context: tokens of prompt and generation.
        batch: rows that are continued together.
        prompt_tokens_per_s: prompt tokens of all rows per second of prefill.
        tokens_per_s: generated tokens of all rows per second, compilation excluded.
        cache_bytes: bytes of the decode state of all rows, free slots included.
        token_bytes: bytes that a step reads at least: the weights that a token meets, and the
            decode state.
        roofline_tokens_per_s: tokens per second if a step took only the time to read these bytes
            at the speed of a copy.
    """

    context: int
    batch: int
    prompt_tokens_per_s: Spread
    tokens_per_s: Spread
    cache_bytes: int
    token_bytes: int
    roofline_tokens_per_s: float

    @property
    def roofline_share(self) -> float:
        """Share of the roofline that generation reaches."""
        return self.tokens_per_s.median / self.roofline_tokens_per_s


def contexts(max_seq_len: int) -> list[int]:
    """An eighth of the context, then doubling up to all of it; at least four tokens each."""
    longest = LONGEST if max_seq_len > ENDLESS else max_seq_len
    return [length for length in (longest // 2**i for i in (3, 2, 1, 0)) if length >= 4]


def decodings(model: Model, copy_bytes_per_s: float, rounds: int) -> list[Decoding]:
    """Measure decoding at every context, of one row and of `BATCH`, in turns.

    A model that doesn't generate from a prompt alone has no rows.
    """
    decoder = causal_decoder(model)
    if decoder is None:
        return []
    cells = list(product(contexts(model.max_seq_len), (1, BATCH)))
    engine = Engine(decoder, sampling=Sampling(temp=0.0))
    read: dict[tuple[int, int], list[float]] = {cell: [] for cell in cells}
    speeds_of: dict[tuple[int, int], list[float]] = {cell: [] for cell in cells}
    for number in range(rounds + 1):
        for cell in cells:
            prompt, generation = _speeds(engine, *cell)
            if number:  # the first round compiles
                read[cell].append(prompt)
                speeds_of[cell].append(generation)
    rows = []
    for length, batch in cells:
        state = decoder.init_state(batch, slots(length, model.max_seq_len), dtype(decoder))
        cache = state_bytes(state)
        moved = _weight_bytes(model) + cache
        speeds = Spread.of(read[length, batch]), Spread.of(speeds_of[length, batch])
        best = batch * copy_bytes_per_s / moved
        rows.append(Decoding(length, batch, *speeds, cache, moved, best))
    return rows


def decode_speed(model: Decodable) -> float:
    """Measure tokens per second of greedy decoding, one row, from a nearly empty context; the first
    token, with which the step is compiled, is left out."""
    engine = Engine(model, sampling=Sampling(temp=0.0))
    engine.start([[0]])
    tokens = engine.tokens(min(DECODE_TOKENS, model.max_seq_len - 1))
    next(tokens)
    started = time.perf_counter()
    n_tokens = sum(1 for _ in tokens)
    return n_tokens / (time.perf_counter() - started)


def _speeds(engine: Engine, length: int, batch: int) -> tuple[float, float]:
    """Tokens per second of prefill, and of generating up to `length` after it."""
    model = engine.model
    new = max(2, min(GENERATED, length // 2))
    prompt = [1 % model.vocab_size] * (length - new)
    state = model.init_state(batch, slots(length, model.max_seq_len), dtype(model))
    started = time.perf_counter()
    for first in range(0, len(prompt), CHUNK):
        _, state = model.step(mx.array([prompt[first : first + CHUNK]] * batch), state)
        mx.eval(state)
    reading = batch * len(prompt) / (time.perf_counter() - started)
    engine.start([prompt] * batch)
    tokens = engine.tokens(new)
    next(tokens)
    started = time.perf_counter()
    n_tokens = sum(1 for _ in tokens)
    return reading, batch * n_tokens / (time.perf_counter() - started)


def _weight_bytes(model: nn.Module) -> int:
    """Bytes of the weights that one token meets; tables that are only looked up are left out."""
    counts = count(model)
    total = sum(value.nbytes for _, value in tree_flatten(model.parameters()))
    return round(total * (counts.active - counts.embedding) / counts.total)
