"""Continuous batching: many prompts through a fixed number of rows.

The place of a finished row is taken by the next prompt: its decode state is computed beside the
others, so that it ends at the column where they are, and is written into the row. Where no columns
are left, all rows are read again from the first column on. The decoding step is compiled once for
one number of rows, with the weights as inputs: a model that is trained between two calls decodes
with its new weights, without a copy and without a new trace.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import mlx.core as mx
from mlx.utils import tree_map

from ..core.errors import RunError
from ..layers.kinds import State
from ..models.model import Decodable
from .engine import CHUNK, FILLER, dtype
from .sample import NO_TOKEN, NOT_FINITE, Sampling, log_probs, sample, temperature

REFILL = 8
"""Free rows are filled when they are at least this fraction of all: 1 of 8."""


MIN_SLOTS = 32
"""Columns of the smallest decode state; larger ones have a power of two, so that few are traced."""
WIDTH = 16
"""Prompts are read in widths that are multiples of this."""


@dataclass
class Completion:
    """The continuation of a prompt.

    Attributes:
        tokens: its tokens; the last is the end token if `ended`.
        logps: log-probability of each in nats, under the model's distribution at the sampling
            temperature, before any filter.
        ended: whether an end token ended it, rather than the limit.
    """

    tokens: list[int] = field(default_factory=list)
    logps: list[float] = field(default_factory=list)
    ended: bool = False


class Step(NamedTuple):
    """A decoding step that was queued: its tokens and log-probabilities, `[B]`, and the request of
    each row."""

    token: mx.array
    logp: mx.array
    owners: list[int | None]


class ContinuousEngine:
    """Continues any number of prompts, `rows` of them at a time.

    Attributes:
        model: the model; it may be trained between two calls of `complete`.
        rows: rows that are decoded at once.
        traces: the number of rows at each trace of the compiled step.
        steps: decoding steps so far, each of one token for every row.
    """

    def __init__(
        self,
        model: Decodable,
        *,
        rows: int,
        sampling: Sampling | None = None,
        vocab_size: int | None = None,
    ) -> None:
        """
        Args:
            model: the model.
            rows: prompts that are continued at once.
            sampling: how each next token is drawn; a repetition penalty is not supported.
            vocab_size: number of tokens that may be drawn, where the model has more than the
                tokenizer.

        Raises:
            RunError: `rows` is below 1, or sampling has a repetition penalty.
        """
        sampling = sampling or Sampling()
        if rows < 1:
            raise RunError(f"{rows} rows can't be decoded: give at least 1.")
        if sampling.repetition_penalty != 1:
            raise RunError("Continuous batching has no repetition penalty: set it to 1.")
        self.model, self.rows = model, rows
        self.traces: list[int] = []
        self.steps = 0
        self._step = _compiled(model, sampling, vocab_size or model.vocab_size, self.traces)
        self._state: State = {}
        self._token = self._keys = mx.zeros(0)
        self._offset = 0
        self._prefill = _compiled_prefill(model)
        self._axes = _batch_axes(model)

    def complete(
        self,
        prompts: Sequence[Sequence[int]],
        seeds: Sequence[int],
        *,
        max_tokens: int,
        ends: frozenset[int] = frozenset(),
    ) -> list[Completion]:
        """Continue every prompt until a token of `ends`, or by `max_tokens` tokens.

        Args:
            prompts: the tokens of each prompt, one or more.
            seeds: the seed of each; a prompt's draws depend on its own alone.
            max_tokens: the most tokens of a completion, at least 1.
            ends: tokens that end a completion; it includes them.

        Raises:
            RunError: a prompt is empty, a row doesn't fit the model's context, or the model's
                logits are not finite.
        """
        _check_fits(self.model, prompts, max_tokens)
        self._prompts = [[int(token) for token in prompt] for prompt in prompts]
        self._seeds, self._limit, self._ends = seeds, max_tokens, ends
        self._done = [Completion() for _ in prompts]
        longest = max(map(len, prompts), default=0) + max_tokens
        room = 1 << (longest + longest // 4 - 1).bit_length()
        self._slots = min(max(room, MIN_SLOTS), self.model.max_seq_len)
        self._waiting = deque(range(len(prompts)))
        self._owners: list[int | None] = [None] * self.rows
        for _ in self._decode():
            pass
        return self._done

    def _decode(self) -> Iterator[None]:
        """One decoding step after the other, the next always queued before one is read."""
        self._restart()
        pending: Step | None = None
        while any(owner is not None for owner in self._owners):
            if self._offset >= self._slots:
                if pending is not None:
                    self._take(pending)
                    pending = None
                self._restart()
                continue
            queued = self._advance()
            if pending is not None:
                self._take(pending)
            pending = queued
            free = self._owners.count(None)
            if self._waiting and free == self.rows:
                self._restart()  # no row is read again, and all columns are free
            elif self._waiting and free and free * REFILL >= self.rows:
                self._refill()
            yield

    def _take(self, step: Step) -> None:
        """Add the tokens of a step to their completions; free the rows that have ended.

        Raises:
            RunError: the model's logits were not finite.
        """
        tokens, logps = cast(list[int], step.token.tolist()), cast(list[float], step.logp.tolist())
        for row, request in enumerate(step.owners):
            if request is None or self._owners[row] != request:
                continue
            if tokens[row] == NO_TOKEN:
                raise RunError(NOT_FINITE)
            done = self._done[request]
            done.tokens.append(tokens[row])
            done.logps.append(logps[row])
            done.ended = tokens[row] in self._ends
            if done.ended or len(done.tokens) >= self._limit:
                self._owners[row] = None

    def _advance(self) -> Step:
        """Queue the next step of all rows."""
        token, logp, self._state, self._keys = self._step(self._token, self._state, self._keys)
        mx.async_eval(token, logp, self._state, self._keys)
        self._token, self._offset = token, self._offset + 1
        self.steps += 1
        return Step(token, logp, list(self._owners))

    def _restart(self) -> None:
        """Give free rows to waiting prompts, and read all rows into an empty state."""
        keys: list[mx.array | None] = [None] * self.rows
        for row, owner in enumerate(self._owners):
            if owner is not None:
                keys[row] = self._keys[row]
            elif self._waiting:
                self._owners[row] = self._waiting.popleft()
        texts = [self._known(owner) for owner in self._owners]
        longest = max(len(tokens) for tokens in texts) - 1
        fits = _bucket(longest) + self._limit <= self._slots
        self._offset = _bucket(longest) if fits else longest
        self._state = self._read(texts, self._offset)
        self._token = mx.array([tokens[-1] for tokens in texts], dtype=mx.int32)
        fresh = [mx.random.key(0 if o is None else self._seeds[o]) for o in self._owners]
        pairs = zip(keys, fresh, strict=True)
        self._keys = mx.stack([new if old is None else old for old, new in pairs])

    def _known(self, owner: int | None) -> list[int]:
        """The tokens of a row so far; one filler where it has no request."""
        return [FILLER] if owner is None else self._prompts[owner] + self._done[owner].tokens

    def _refill(self) -> None:
        """Write the state of waiting prompts into free rows, those that end at this column."""
        admitted: list[tuple[int, int]] = []
        for row, owner in enumerate(self._owners):
            if owner is not None or not self._waiting:
                continue
            if len(self._prompts[self._waiting[0]]) - 1 > self._offset:
                break  # its beginning would lie before the first column
            admitted.append((row, self._waiting.popleft()))
        if not admitted:
            return
        places = mx.array([row for row, _ in admitted])
        prompts = [self._prompts[request] for _, request in admitted]
        part = max(self.rows // REFILL, 1)
        spare = [[FILLER]] * (-len(prompts) % part)  # few numbers of rows are traced
        new = self._read([*prompts, *spare], self._offset)
        blocks = tree_map(
            lambda old, fresh_state, axis: _written(old, fresh_state, axis, places),
            self._state["blocks"],
            new["blocks"],
            self._axes,
        )
        pad = _written(self._state["pad"], new["pad"], 0, places)
        self._state = self._state | {"blocks": blocks, "pad": pad}
        last = mx.array([prompt[-1] for prompt in prompts], dtype=mx.int32)
        self._token = _written(self._token, last, 0, places)
        keys = mx.stack([mx.random.key(self._seeds[request]) for _, request in admitted])
        self._keys = _written(self._keys, keys, 0, places)
        for row, request in admitted:
            self._owners[row] = request

    def _read(self, rows: Sequence[list[int]], offset: int) -> State:
        """The state after all tokens of `rows` but the last, which end before column `offset`."""
        width = max(len(tokens) for tokens in rows) - 1
        width = _bucket(width) if _bucket(width) <= offset else width
        pads = [offset - (len(tokens) - 1) for tokens in rows]
        state = self.model.init_state(
            len(rows),
            self._slots,
            dtype(self.model),
            pad=mx.array(pads, dtype=mx.int32),
            total_length=offset + 1,
        )
        state = state | {"offset": mx.array(offset - width)}
        filled = [[FILLER] * (width - len(tokens) + 1) + tokens[:-1] for tokens in rows]
        tokens = mx.array(filled, dtype=mx.int32).reshape(len(rows), width)
        for start in range(0, width, CHUNK):
            state = self._prefill(tokens[:, start : start + CHUNK], state)
            mx.eval(state)
        return state


def _bucket(length: int) -> int:
    """The next multiple of 16: few widths of prompts are traced."""
    return -(-length // WIDTH) * WIDTH


def _check_fits(model: Decodable, prompts: Sequence[Sequence[int]], max_tokens: int) -> None:
    """Refuse prompts without tokens, and rows longer than the model's context.

    Raises:
        RunError: there is one.
    """
    if not all(len(prompt) for prompt in prompts):
        raise RunError("Every prompt needs at least one token to continue from.")
    longest = max(map(len, prompts), default=0)
    limit = min(model.max_seq_len, model.recompute_beyond or model.max_seq_len)
    if longest + max_tokens - 1 > limit:
        raise RunError(
            f"A prompt of {longest} tokens and {max_tokens} more don't fit the model's context of "
            f"{limit}: shorten the prompts or the completions."
        )


def _batch_axes(model: Decodable) -> Any:
    """For each array of a decode state's blocks, the axis of the rows; -1 where it has none."""
    one_row, two_rows = (
        model.init_state(n, 2, mx.float32, pad=mx.zeros(n, dtype=mx.int32))["blocks"]
        for n in (1, 2)
    )

    def axis(a: mx.array, b: mx.array) -> int:
        return next(
            (i for i, (m, n) in enumerate(zip(a.shape, b.shape, strict=True)) if m != n), -1
        )

    return tree_map(axis, one_row, two_rows)


def _written(old: mx.array, new: mx.array, axis: int, places: mx.array) -> mx.array:
    """`old` with the first of `new` at `places` of an axis; -1 leaves it as it is."""
    if axis < 0:
        return old
    before = (slice(None),) * axis
    out = mx.array(old)
    out[(*before, places)] = new[(*before, slice(len(places)))]
    return out


def _compiled_prefill(model: Decodable) -> Callable[[mx.array, State], State]:
    """`(tokens [B, T], state) -> state`, without logits."""

    def prefill(tokens: mx.array, state: State) -> State:
        return model.step(tokens, state)[1]

    return mx.compile(prefill, inputs=model.state)


def _compiled(
    model: Decodable, sampling: Sampling, vocab_size: int, traces: list[int]
) -> Callable[..., tuple[mx.array, mx.array, State, mx.array]]:
    """`(token [B], state, keys [B, 2]) -> (next [B], logp [B], state, keys)`.

    A row whose logits are not finite gets the token -1.
    """

    def step(
        token: mx.array, state: State, keys: mx.array
    ) -> tuple[mx.array, mx.array, State, mx.array]:
        traces.append(len(token))
        logits, state = model.step(token[:, None], state)
        logits = logits[:, -1, :vocab_size].astype(mx.float32)
        pairs = mx.vmap(mx.random.split)(keys)
        history = mx.zeros((len(token), 0), dtype=mx.int32)
        chosen = sample(logits, pairs[:, 0], history, sampling)
        finite = mx.isfinite(logits.sum(axis=-1))
        logp = log_probs(temperature(logits, sampling.temp or 1.0), chosen)
        return mx.where(finite, chosen, NO_TOKEN), logp, state, pairs[:, 1]

    return mx.compile(step, inputs=model.state)
