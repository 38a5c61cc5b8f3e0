"""Beam search: the K most probable sequences so far, each continued by its most probable tokens.

    score(Y) = log P(Y) / lp(Y)        lp(Y) = ((5 + |Y|) / 6)^α

Wu et al. 2016 (GNMT), equation 14, without its coverage penalty; the search is that of Sutskever et
al. 2014, section 3.2. A sequence ends with the end token, which counts in |Y|, or at the limit.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
from mlx.utils import tree_map

from ..core.context import Context
from ..core.errors import RunError
from .engine import Decodable, dtype

Step = Callable[[mx.array, Any], tuple[mx.array, Any]]
"""`(tokens [N, 1], state) -> (logits [N, 1, V], state)`."""

NEVER = -1e30
"""The log-probability of what isn't there: far below any, and finite."""


@dataclass(frozen=True)
class Beams:
    """How to search.

    Attributes:
        n: sequences that are kept, K. 1 without a penalty is greedy decoding.
        alpha: exponent α of the length penalty; 0 favours short sequences, GNMT took 0.6.
        early: whether a search ends as soon as K sequences have ended; otherwise it goes on until
            none that has not ended can still be among the best.
    """

    n: int = 4
    alpha: float = 0.6
    early: bool = False

    def __post_init__(self) -> None:
        if self.n < 1:
            raise RunError(f"{self.n} beams keep nothing. Keep at least 1.")
        if self.alpha < 0:
            raise RunError(
                f"alpha = {self.alpha} is out of range: a penalty for length is 0 or more."
            )

    def penalty(self, length: Any) -> Any:
        """`lp` of a sequence of `length` tokens."""
        return ((5.0 + length) / 6.0) ** self.alpha


@dataclass(frozen=True)
class Hypothesis:
    """A sequence that was found.

    Attributes:
        tokens: without the end token.
        score: its log-probability (nats) over its length penalty.
        ended: whether it ended by itself; otherwise it was cut at the limit.
    """

    tokens: list[int]
    score: float
    ended: bool


def best_continuations(
    model: Decodable,
    prompt: list[int],
    *,
    end: int,
    limit: int,
    beams: Beams | None = None,
    n_best: int = 1,
    vocab_size: int | None = None,
) -> list[Hypothesis]:
    """The best sequences of at most `limit` tokens that follow `prompt` (one token at least)."""
    length = len(prompt) + limit

    def begin(rows: int) -> Any:
        return model.init_state(rows, length, dtype(model))

    state = begin(1)
    if prompt[:-1]:
        _, state = model.step(mx.array([prompt[:-1]], dtype=mx.int32), state)
    first = mx.array(prompt[-1:], dtype=mx.int32)
    search = Search(model.step, has_rows(begin), end, limit, beams or Beams(), vocab_size)
    return search.run(first, state, n_best)[0]


def best_targets(
    model: Any,
    source: mx.array,
    source_valid: mx.array | None = None,
    *,
    start: int,
    end: int,
    limit: int,
    beams: Beams | None = None,
    n_best: int = 1,
    vocab_size: int | None = None,
) -> list[list[Hypothesis]]:
    """For each source of `[B, S]` the best targets of at most `limit` tokens.

    Args:
        model: an encoder-decoder.
        source_valid: `[B, S]`, which source tokens exist; None means all.
        start: the token that the decoder reads first.
        vocab_size: how many tokens may be written, where the model knows more.
    """

    def begin(rows: mx.array, valid: mx.array | None) -> Any:
        memory = model.encode(rows, Context(memory_valid=valid))
        sizes = (rows.shape[0], limit + 1, dtype(model))
        return model.init_state(*sizes, memory=memory, memory_valid=valid)

    def of_rows(n: int) -> Any:
        some = mx.zeros((n, source.shape[1]), source.dtype)
        return begin(some, None if source_valid is None else mx.ones(some.shape, mx.bool_))

    first = mx.full((source.shape[0],), start, dtype=mx.int32)
    search = Search(model.step, has_rows(of_rows), end, limit, beams or Beams(), vocab_size)
    return search.run(first, begin(source, source_valid), n_best)


def has_rows(begin: Callable[[int], Any]) -> Any:
    """Which arrays of a decode state have a row for each sequence: a tree of booleans.

    Others are shared by all (positions, offsets). `begin(n)` makes a state of n rows; those that
    change their shape with n have rows. Nothing is computed.
    """
    return tree_map(lambda one, two: one.shape != two.shape, begin(1), begin(2))


class Search:
    """A beam search over the step of any model, compiled once for one number of rows."""

    def __init__(
        self,
        step: Step,
        rows: Any,
        end: int,
        limit: int,
        beams: Beams,
        vocab_size: int | None = None,
    ) -> None:
        if limit < 1:
            raise RunError(f"A limit of {limit} tokens leaves nothing to search for.")
        self._step, self._rows = step, rows
        self.end, self.limit, self.beams, self.vocab_size = end, limit, beams, vocab_size
        self._advance = mx.compile(self._advanced)

    def run(self, first: mx.array, state: Any, n_best: int = 1) -> list[list[Hypothesis]]:
        """The `n_best` best sequences after each of the tokens `first [B]`, the best one first.

        Args:
            state: the decode state of B rows, before `first`.

        Raises:
            RunError: more sequences are asked for than are kept.
        """
        if not 1 <= n_best <= self.beams.n:
            raise RunError(
                f"n_best = {n_best} of {self.beams.n} beams: ask for 1 to {self.beams.n}."
            )
        B, K, L = first.shape[0], self.beams.n, self.limit
        state = tree_map(lambda x, r: mx.repeat(x, K, axis=0) if r else x, state, self._rows)
        held = {
            "last": mx.repeat(first, K),
            "alive": mx.where(mx.arange(K) == 0, 0.0, NEVER) + mx.zeros((B, 1)),
            "tokens": mx.full((B, K, L), self.end, dtype=mx.int32),
            "done": mx.full((B, K), NEVER),
            "ended": mx.full((B, K, L), self.end, dtype=mx.int32),
        }
        for t in range(L):
            held, state, over = self._advance(held, state, mx.array(t), mx.array(n_best))
            if over.item():
                break
        return self._best(held, t + 1, n_best)

    def _advanced(
        self, held: dict[str, mx.array], state: Any, t: mx.array, n_best: mx.array
    ) -> tuple[dict[str, mx.array], Any, mx.array]:
        """One more token for every sequence: what is held, the state, whether all is over."""
        B, K, _ = held["tokens"].shape
        logits, state = self._step(held["last"][:, None], state)
        logits = logits[:, -1, : self.vocab_size].astype(mx.float32)
        log_p = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
        total = (held["alive"][..., None] + log_p.reshape(B, K, -1)).reshape(B, -1)
        # Of 2 K candidates at most K end: K that go on are always among them.
        order = mx.argsort(-total, axis=-1)[:, : 2 * K]
        total = mx.take_along_axis(total, order, axis=-1)
        parent, token = order // logits.shape[-1], order % logits.shape[-1]
        tokens = mx.take_along_axis(held["tokens"], parent[..., None], axis=1)
        tokens = mx.where(mx.arange(self.limit) == t, token[..., None], tokens).astype(mx.int32)
        ends = token == self.end
        # Only what is among the K best may end, so that one beam is greedy.
        done = mx.where(ends[:, :K], total[:, :K] / self.beams.penalty(t + 1), NEVER)
        done = mx.concatenate([held["done"], done], axis=1)
        ended = mx.concatenate([held["ended"], tokens[:, :K]], axis=1)
        kept = mx.argsort(-done, axis=-1)[:, :K]
        going = mx.argsort(mx.where(ends, 1, 0) * 2 * K + mx.arange(2 * K), axis=-1)[:, :K]
        after = {
            "last": mx.take_along_axis(token, going, axis=1).reshape(-1).astype(mx.int32),
            "alive": mx.take_along_axis(mx.where(ends, NEVER, total), going, axis=1),
            "tokens": mx.take_along_axis(tokens, going[..., None], axis=1),
            "done": mx.take_along_axis(done, kept, axis=1),
            "ended": mx.take_along_axis(ended, kept[..., None], axis=1),
        }
        from_row = mx.take_along_axis(parent, going, axis=1) + mx.arange(B)[:, None] * K
        flat = from_row.reshape(-1)
        state = tree_map(lambda x, r: x[flat] if r else x, state, self._rows)
        return after, state, self._over(after, t + 1, n_best)

    def _over(self, held: dict[str, mx.array], length: mx.array, n_best: mx.array) -> mx.array:
        """Whether nothing that goes on can still be among the best."""
        done = held["done"]
        if self.beams.early:
            return (done > NEVER / 2).all()
        # A log-probability only falls; the penalty that favours it most is that of the limit.
        favour = self.beams.penalty(self.limit if self.beams.alpha > 0 else length)
        worst = mx.take_along_axis(done, mx.broadcast_to(n_best - 1, (done.shape[0], 1)), axis=1)
        return (held["alive"].max(axis=1) / favour <= worst[:, 0]).all()

    def _best(self, held: dict[str, mx.array], length: int, n_best: int) -> list[list[Hypothesis]]:
        """The best of what has ended; at the limit also of what was cut there."""
        found = []
        cut = held["alive"] / self.beams.penalty(length)
        arrays = (held["done"], held["ended"], held["tokens"], cut)
        lists: list[Any] = [array.tolist() for array in arrays]
        for done, ended, tokens, alive in zip(*lists, strict=True):
            row = [
                Hypothesis(_before(sequence, self.end), score, True)
                for score, sequence in zip(done, ended, strict=True)
                if score > NEVER / 2
            ]
            if length == self.limit or len(row) < n_best:
                row += [
                    Hypothesis(sequence[:length], score, False)
                    for score, sequence in zip(alive, tokens, strict=True)
                    if score > NEVER / 2
                ]
            found.append(sorted(row, key=lambda h: -h.score)[:n_best])
        return found


def _before(tokens: list[int], end: int) -> list[int]:
    return tokens[: tokens.index(end)] if end in tokens else tokens
