"""The decoding engine: prefill of the prompts, then one compiled step per token for all rows.

Prompts of different lengths are padded on the left. All but their last column is read in chunks,
which compute the decode state (KV cache) and no logits. One compiled function then takes a token of
each row and the state, and returns the next token and the new state. The model's weights are inputs
of that function, so an engine whose model has been trained further uses the new weights without a
new trace; the step is traced again only when the number of rows changes or the state grows.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import cast

import mlx.core as mx
from mlx.utils import tree_flatten, tree_map

from ..core.errors import RunError
from ..layers.kinds import State
from ..models.model import Arrays, Decodable
from .packed_cache import CachePacking, packed_caches
from .sample import NO_TOKEN, NOT_FINITE, Sampling, sample

CHUNK = 512
"""Tokens of each prompt that are read at once; bounds the memory of a long prompt."""

SLOTS = 256
"""Tokens that a new decode state has room for. Attention runs over all slots, so fewer is faster
(5M parameters, CPU: 597 tokens/s with 256 slots, 435 with 1,024, 345 with 2,048)."""

VECTOR = -1
"""The token of slots whose embedding is given as a vector."""

FILLER = 0
"""The token of padded slots, which are never attended to."""


Observed = dict[str, mx.array]
"""Arrays by name, the rows of the batch first."""
Observe = Callable[[mx.array, mx.array], Observed]
"""Computes something of the logits `[B, V]` of a step and the tokens `[B]` drawn from them."""


def unobserved(logits: mx.array, tokens: mx.array) -> Observed:
    """Observe nothing."""
    return {}


class Engine:
    """Continues a batch of prompts, one token per row and step.

    Row r draws its tokens from its own seed, so that a row of a batch gets the tokens that its
    prompt gets alone (up to the rounding of matrix products of another size).

    Attributes:
        model: the model that continues; it may be trained between two `start`s.
        cache: the decode state of the current batch, a tree of arrays.
        traces: the shape of the tokens at each trace of the compiled step.
        observed: what `observe` returned for the tokens that `tokens` yielded last.
    """

    def __init__(
        self,
        model: Decodable,
        *,
        sampling: Sampling | None = None,
        vocab_size: int | None = None,
        first: int = 0,
        observe: Observe = unobserved,
        packing: CachePacking | None = None,
    ) -> None:
        """
        Args:
            model: the model.
            sampling: how each next token is drawn.
            vocab_size: number of tokens that may be drawn, where the model has more than the
                tokenizer.
            first: the first token that may be drawn, for tokens at the end of the vocabulary
                alone, such as those of a picture.
            observe: a function of each step's logits `[B, V]` and drawn tokens `[B]`, compiled
                with the step (log-probabilities, say).
            packing: of the KV cache; None stores it in the dtype of the model.
        """
        self.model = model
        self.traces: list[list[int]] = []
        self.cache: State = {}
        self.observed: Observed = {}
        self._packing = packing
        self._sampling = sampling or Sampling()
        self._vocab_size = vocab_size or model.vocab_size
        self._step = _compiled(model, self._sampling, first, self._vocab_size, observe, self.traces)
        self._prompts: list[list[int]] = []

    def start(
        self,
        prompts: Sequence[Sequence[int]],
        seeds: Sequence[int] | None = None,
        vectors: Sequence[mx.array] | None = None,
        given: Arrays | None = None,
    ) -> None:
        """Begin a batch: prepare an empty decode state for these prompts.

        Args:
            prompts: the tokens of each row, one or more.
            seeds: the seed of each row; by default the row's number.
            vectors: for each row `[P, W]`, vectors that stand before its tokens in place of
                embeddings of the table, whose width is W (soft prompts); P may be 0.
            given: arrays that the rows read beside their tokens, such as `pixels`.

        Raises:
            RunError: there is no prompt, or one of them has no token.
        """
        if not prompts or not all(len(prompt) for prompt in prompts):
            raise RunError("Every prompt needs at least one token to continue from.")
        seeds = range(len(prompts)) if seeds is None else seeds
        self._prompts = [[int(token) for token in prompt] for prompt in prompts]
        self._given = dict(given or {})
        soft_prompt = self.model.soft_prompt()
        if soft_prompt is not None:
            row_vectors = vectors or [soft_prompt[:0]] * len(prompts)
            vectors = [mx.concatenate([soft_prompt, vector]) for vector in row_vectors]
        if vectors is not None:
            pairs = zip(vectors, self._prompts, strict=True)
            self._prompts = [[VECTOR] * len(v) + prompt for v, prompt in pairs]
        self._length = max(map(len, self._prompts))
        self._pads = [self._length - len(prompt) for prompt in self._prompts]
        self._keys = mx.stack([mx.random.key(seed) for seed in seeds])
        self._slots = slots(self._length, self.model.max_seq_len)
        # The length at which a row is read again, since its positions change (LongRoPE).
        limit = self.model.recompute_beyond
        self._reread_at = None if limit is None else limit + 1
        rows = [[FILLER] * n + p for n, p in zip(self._pads, self._prompts, strict=True)]
        tokens = mx.array(rows, dtype=mx.int32)
        if vectors is not None:
            self._given["vectors"] = _aligned(vectors, self._pads)
        self._known, self._last = [tokens[:, :-1]], tokens[:, -1]
        self.cache = self._empty(self._length)
        width = self._sampling.history_size(self.model.max_seq_len)
        self._history = mx.array([_recent(p, width) for p in self._prompts], dtype=mx.int32)
        self._history = self._history.reshape(len(rows), width)

    def tokens(self, limit: int) -> Iterator[list[int]]:
        """Yield up to `limit` (1 or more) times the next token of every row.

        The next step is queued before a token is read, so that the device doesn't wait for
        Python; the step after the last token is never computed.

        Raises:
            RunError: the model's logits are not finite numbers.
        """
        self._read(self._known[0])
        self._drop_vectors()
        token, observed = self._advance(self._last, self._length)
        for i in range(1, limit):
            following = self._advance(token, self._length + i)
            self.observed = observed
            yield self._values(token)
            token, observed = following
        self.observed = observed
        yield self._values(token)

    def _read(self, tokens: mx.array) -> None:
        """Advance the state by `tokens [B, T]`, in chunks."""
        for start in range(0, tokens.shape[1], CHUNK):
            _, self.cache = self.model.step(tokens[:, start : start + CHUNK], self.cache)
            mx.eval(self.cache)

    def _empty(self, length: int) -> State:
        """An empty decode state before `length` known tokens, padding included."""
        pad = mx.array(self._pads, dtype=mx.int32) if any(self._pads) else None
        state = self.model.init_state(
            len(self._pads),
            self._slots,
            dtype(self.model),
            pad=pad,
            total_length=length if pad is None else length - pad,
            given=self._given,
        )
        if self._packing is None:
            return state
        return {**state, "blocks": packed_caches(self.model, state["blocks"], self._packing)}

    def _advance(self, token: mx.array, length: int) -> tuple[mx.array, Observed]:
        """The next tokens `[B]` and what is observed of them, where `length` slots are known,
        `token` the last of them."""
        if length > self._slots:
            self._slots = slots(length, self.model.max_seq_len)
            larger = {k: v for k, v in self._empty(length).items() if k != "vectors"}
            self.cache = tree_map(_grow, self.cache, larger)
        if self._reread_at is not None:
            if length > self._length and self._reread_at in {length - pad for pad in self._pads}:
                self.cache = self._empty(length)
                self._read(mx.concatenate(self._known, axis=1))
                self._drop_vectors()
            self._known.append(token[:, None])
        token, self.cache, self._history, self._keys, observed = self._step(
            token, self.cache, self._history, self._keys
        )
        mx.async_eval(token, self.cache, self._history, self._keys, observed)
        return token, observed

    def _drop_vectors(self) -> None:
        """Leave the vectors of the prompts out of the state, once they are read."""
        if "vectors" in self._given:
            self.cache = {k: v for k, v in self.cache.items() if k != "vectors"}

    def _values(self, token: mx.array) -> list[int]:
        values = cast(list[int], token.tolist())
        if NO_TOKEN in values:
            raise RunError(NOT_FINITE)
        return values


def slots(length: int, context: int) -> int:
    """Room for `length` tokens: 256, doubled until they fit, at most the context.

    Doubling keeps the traces few where the context is long.
    """
    room = SLOTS
    while room < length:
        room *= 2
    return min(room, context)


def dtype(model: Decodable) -> mx.Dtype:
    """The floating type of the model's parameters, which its decode state has too."""
    types = (value.dtype for _, value in tree_flatten(model.parameters()))
    return next((t for t in types if mx.issubdtype(t, mx.floating)), mx.float32)


def _aligned(vectors: Sequence[mx.array], pads: Sequence[int]) -> mx.array:
    """The vectors of all rows in their slots, `[B, S, W]`, zeros before and behind them."""
    longest = max(1, *(pad + len(v) for v, pad in zip(vectors, pads, strict=True)))
    rows = [
        mx.pad(v, [(pad, longest - pad - len(v)), (0, 0)])
        for v, pad in zip(vectors, pads, strict=True)
    ]
    return mx.stack(rows)


def _recent(prompt: list[int], width: int) -> list[int]:
    """The last `width` tokens of a prompt, filled up with NO_TOKEN on the left."""
    recent = prompt[-width:] if width else []
    return [NO_TOKEN] * (width - len(recent)) + recent


def _compiled(
    model: Decodable,
    sampling: Sampling,
    first: int,
    vocab_size: int,
    observe: Observe,
    traces: list[list[int]],
) -> Callable[..., tuple[mx.array, State, mx.array, mx.array, Observed]]:
    """`(token [B], state, history [B, W], keys [B, 2])` to the next tokens `[B]`, state, history,
    keys, and what is observed.

    A row whose logits are not finite gets the token -1.
    """

    def step(
        token: mx.array, state: State, history: mx.array, keys: mx.array
    ) -> tuple[mx.array, State, mx.array, mx.array, Observed]:
        traces.append(list(token.shape))
        logits, state = model.step(token[:, None], state)
        logits = logits[:, -1, :vocab_size]
        finite = mx.isfinite(logits.astype(mx.float32).sum(axis=-1))
        if first:
            logits = mx.where(mx.arange(logits.shape[-1]) >= first, logits, -mx.inf)
        pairs = mx.vmap(mx.random.split)(keys)
        chosen = sample(logits, pairs[:, 0], history, sampling)
        chosen = mx.where(finite, chosen, NO_TOKEN)
        if history.shape[1]:
            history = mx.concatenate([history[:, 1:], chosen[:, None]], axis=1)
        return chosen, state, history, pairs[:, 1], observe(logits, chosen)

    return mx.compile(step, inputs=model.state)


def _grow(old: mx.array, new: mx.array) -> mx.array:
    """`old` in the first corner of the larger `new`: every filled slot keeps its content."""
    if old.shape == new.shape:
        return old
    new[tuple(slice(0, n) for n in old.shape)] = old
    return new
