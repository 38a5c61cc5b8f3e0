"""The engine: from a prompt's tokens to the tokens that follow, one compiled step each.

The prompt but for its last token is read in chunks, of which only the decode state is computed,
no logits. Then one function takes a token of every row and the state, and returns the next token
and the new state. It is traced once, and again only when the state has to grow.
"""

from collections.abc import Callable, Iterator
from typing import Any, Protocol, cast

import mlx.core as mx
from mlx.utils import tree_flatten, tree_map

from ..core.errors import RunError
from .sample import NONE, Sampling, sample

CHUNK = 512
"""Prompt tokens that are read at once; bounds the memory of a long prompt."""

SLOTS = 256
"""Tokens that a state has room for at first. Attention runs over all slots, so fewer is faster
(5M parameters, CPU: 597 tokens/s with 256 slots, 435 with 1,024, 345 with 2,048)."""


class Decodable(Protocol):
    """What a model must offer to generate text."""

    max_seq_len: int
    vocab_size: int

    def init_state(self, batch: int, length: int, dtype: mx.Dtype, **total_length: int) -> Any: ...

    def step(self, tokens: mx.array, state: Any) -> tuple[mx.array, Any]: ...

    def parameters(self) -> dict[str, Any]: ...


class Engine:
    """Rows of tokens that follow one prompt; iterating computes them.

    Attributes:
        state: the decode state, a tree of arrays.
        traces: the shape of the tokens at each trace of the step: one trace, and one more each
            time the state grew.
    """

    def __init__(
        self,
        model: Decodable,
        prompt: list[int],
        *,
        sampling: Sampling,
        seed: int = 0,
        rows: int = 1,
        vocab_size: int | None = None,
    ) -> None:
        """Continue `prompt` (one token at least) in `rows` ways that are drawn independently.

        `vocab_size` is how many tokens may be drawn, where the model knows more of them than
        the tokenizer does.
        """
        self._model, self._prompt, self._rows = model, prompt, rows
        self._key = mx.random.key(seed)
        self._slots = slots(len(prompt), model.max_seq_len)
        self._reread_at = (getattr(model, "recompute_beyond", None) or -1) + 1
        before = mx.array(prompt[:-1], dtype=mx.int32)
        self._known = [mx.broadcast_to(before, (rows, len(prompt) - 1))]
        self.state = self._empty(len(prompt))
        self.traces: list[list[int]] = []
        width = sampling.history_size(model.max_seq_len)
        recent = prompt[-width:] if width else []
        padded = [NONE] * (width - len(recent)) + recent
        self._history = mx.broadcast_to(mx.array(padded, dtype=mx.int32), (rows, width))
        self._step = _compiled(model, sampling, vocab_size or model.vocab_size, self.traces)

    def tokens(self, limit: int) -> Iterator[list[int]]:
        """At most `limit` (1 or more) tokens for every row, as long as the caller asks for them.

        The next step is queued before a token is read, so that the machine doesn't wait for
        Python; the step after the last token is never computed.

        Raises:
            RunError: the model's logits are not finite numbers.
        """
        token = self._advance(self._read_prompt(), len(self._prompt))
        for i in range(1, limit):
            following = self._advance(token, len(self._prompt) + i)
            yield self._values(token)
            token = following
        yield self._values(token)

    def _read_prompt(self) -> mx.array:
        """Bring the state to the prompt's last token, and return that token, `[B]`."""
        self._read(self._known[0])
        return mx.full((self._rows,), self._prompt[-1], dtype=mx.int32)

    def _read(self, tokens: mx.array) -> None:
        """Continue the state by `tokens [B, T]`, in chunks."""
        for start in range(0, tokens.shape[1], CHUNK):
            _, self.state = self._model.step(tokens[:, start : start + CHUNK], self.state)
            mx.eval(self.state)

    def _empty(self, length: int) -> Any:
        """A decode state before `length` tokens that are known."""
        total = {"total_length": length} if self._reread_at else {}
        return self._model.init_state(self._rows, self._slots, dtype(self._model), **total)

    def _advance(self, token: mx.array, length: int) -> mx.array:
        """The next token, where `length` tokens are known, `token` the last of them."""
        if length > self._slots:
            self._slots = slots(length, self._model.max_seq_len)
            self.state = tree_map(_grow, self.state, self._empty(length))
        if self._reread_at:
            if length == self._reread_at > len(self._prompt):
                self.state = self._empty(length)
                self._read(mx.concatenate(self._known, axis=1))
            self._known.append(token[:, None])
        token, self.state, self._history, self._key = self._step(
            token, self.state, self._history, self._key
        )
        mx.async_eval(token, self.state, self._history, self._key)
        return token

    def _values(self, token: mx.array) -> list[int]:
        values = cast(list[int], token.tolist())
        if NONE in values:
            raise RunError(
                "The model's logits are not finite numbers (NaN or infinity), so no token can be "
                "chosen. Its training diverged: use an earlier checkpoint of the run, or train "
                "again with a lower learning rate."
            )
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
    """The floating type of the model's parameters, which its decode state takes too."""
    types = (value.dtype for _, value in tree_flatten(model.parameters()))
    return next((t for t in types if mx.issubdtype(t, mx.floating)), mx.float32)


def _compiled(
    model: Decodable, sampling: Sampling, vocab_size: int, traces: list[list[int]]
) -> Callable[..., tuple[mx.array, Any, mx.array, mx.array]]:
    """`(token [B], state, history [B, W], key) -> (next token [B], state, history, key)`.

    A row whose logits are not finite gets the token -1.
    """

    def step(
        token: mx.array, state: Any, history: mx.array, key: mx.array
    ) -> tuple[mx.array, Any, mx.array, mx.array]:
        traces.append(list(token.shape))
        logits, state = model.step(token[:, None], state)
        logits = logits[:, -1, :vocab_size]
        draw, key = mx.random.split(key)
        chosen = sample(logits, draw, history, sampling)
        sane = mx.isfinite(logits.astype(mx.float32).sum(axis=-1))
        chosen = mx.where(sane, chosen, NONE)
        if history.shape[1]:
            history = mx.concatenate([history[:, 1:], chosen[:, None]], axis=1)
        return chosen, state, history, key

    return mx.compile(step)


def _grow(old: mx.array, new: mx.array) -> mx.array:
    """`old` in the first corner of the larger `new`: what has a slot keeps it."""
    if old.shape == new.shape:
        return old
    new[tuple(slice(0, n) for n in old.shape)] = old
    return new
