"""Beam search: the K most probable sequences so far, each continued by its most probable tokens.

    score(Y) = log P(Y) / lp(Y)        lp(Y) = ((5 + |Y|) / 6)^α

Wu et al. 2016 (GNMT), equation 14, without its coverage penalty; the search is that of Sutskever et
al. 2014, section 3.2. A sequence ends with the end token, which counts in |Y|, or at the limit.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
from mlx.utils import tree_map

from ..core.errors import RunError
from ..core.tree import Tree
from ..layers.kinds import State
from ..models.model import Decodable
from .engine import dtype

Step = Callable[[mx.array, State], tuple[mx.array, State]]
"""`(tokens [N, 1], state) -> (logits [N, 1, V], state)`."""

NEVER = -1e30
"""Log-probability of empty beams: finite, and below that of any sequence."""


MAX_ALPHA = 10
"""Beyond it, a longer sequence wins whatever its tokens are, and powers overflow."""


@dataclass(frozen=True)
class Beams:
    """Options of beam search.

    Attributes:
        n: number of beams K. 1 without a penalty is greedy decoding.
        alpha: exponent α of the length penalty; 0 favours short sequences, GNMT uses 0.6.
        early: whether the search ends as soon as K sequences have ended; otherwise it goes on
            until no unfinished sequence can still be among the best.

    Raises:
        RunError: a value is outside its range.
    """

    n: int = 4
    alpha: float = 0.6
    early: bool = False

    def __post_init__(self) -> None:
        if self.n < 1:
            raise RunError(f"beams = {self.n} is out of range: search with at least 1.")
        if not 0 <= self.alpha <= MAX_ALPHA:
            raise RunError(
                f"length penalty alpha = {self.alpha} is out of range: it is a number from 0 to "
                f"{MAX_ALPHA}."
            )

    def penalty(self, length: Any) -> Any:
        """The length penalty `lp` of a sequence of `length` tokens."""
        return ((5.0 + length) / 6.0) ** self.alpha


@dataclass(frozen=True)
class Hypothesis:
    """A sequence found by beam search.

    Attributes:
        tokens: its tokens without the end token.
        score: its log-probability (nats) divided by its length penalty.
        ended: whether it has an end token; otherwise it was cut at the limit.
    """

    tokens: list[int]
    score: float
    ended: bool


def best_continuations(
    model: Decodable,
    prompt: list[int],
    *,
    end: int | Sequence[int],
    limit: int,
    beams: Beams | None = None,
    n_best: int = 1,
    vocab_size: int | None = None,
) -> list[Hypothesis]:
    """Search the best continuations of `prompt` (one token at least), of at most `limit` tokens.

    Raises:
        RunError: the model reads a soft prompt.
    """
    if model.soft_prompt() is not None:
        raise RunError(
            "Beam search is not built for a soft prompt (adapt.kind = 'prompt'): leave out --beams."
        )
    length = len(prompt) + limit

    def begin(rows: int) -> State:
        return model.init_state(rows, length, dtype(model))

    state = begin(1)
    if prompt[:-1]:
        _, state = model.step(mx.array([prompt[:-1]], dtype=mx.int32), state)
    first = mx.array(prompt[-1:], dtype=mx.int32)
    search = Search(model.step, has_rows(begin), end, limit, beams or Beams(), vocab_size)
    return search.run(first, state, n_best)[0]


def best_targets(
    model: Decodable,
    source: mx.array,
    source_valid: mx.array | None = None,
    *,
    start: int,
    end: int,
    limit: int,
    beams: Beams | None = None,
    n_best: int = 1,
    vocab_size: int | None = None,
    name: str = "source",
) -> list[list[Hypothesis]]:
    """Search the best targets, of at most `limit` tokens, for each source of `[B, S]`.

    Args:
        model: an encoder-decoder.
        source: token ids, or frames of sound `[B, S, n_mels]`.
        source_valid: `[B, S]`, False for padding; None means there is none.
        start: the decoder's first input token.
        end: the token that ends a target.
        limit: the most tokens of a target.
        beams: options of the search.
        n_best: how many targets to return per source.
        vocab_size: number of tokens that may be written, where the model has more.
        name: array of a batch that the encoder reads.
    """

    def begin(rows: mx.array, valid: mx.array | None) -> State:
        inputs = {name: rows} if valid is None else {name: rows, f"{name}_valid": valid}
        return model.init_state(rows.shape[0], limit + 1, dtype(model), given=inputs)

    def of_rows(n: int) -> State:
        some = mx.zeros((n, *source.shape[1:]), source.dtype)
        return begin(some, None if source_valid is None else mx.ones(some.shape, mx.bool_))

    first = mx.full((source.shape[0],), start, dtype=mx.int32)
    search = Search(model.step, has_rows(of_rows), end, limit, beams or Beams(), vocab_size)
    return search.run(first, begin(source, source_valid), n_best)


def has_rows(begin: Callable[[int], State]) -> Tree:
    """Find which arrays of a decode state have a batch axis: a tree of booleans.

    The others (positions, offsets) are shared by all rows. `begin(n)` makes a state of n rows;
    arrays whose shape depends on n have a batch axis. Nothing is computed.
    """
    return tree_map(lambda a, b: a.shape != b.shape, begin(1), begin(2))


class Search:
    """A beam search over the step of any model, compiled once for one number of rows."""

    def __init__(
        self,
        step: Step,
        rows: Tree,
        end: int | Sequence[int],
        limit: int,
        beams: Beams,
        vocab_size: int | None = None,
    ) -> None:
        if limit < 1:
            raise RunError(f"A limit of {limit} tokens leaves nothing to search for.")
        self._step, self._rows = step, rows
        self.ends = [end] if isinstance(end, int) else list(end)
        self.limit, self.beams, self.vocab_size = limit, beams, vocab_size
        self._advance = mx.compile(self._advanced)

    def run(self, first: mx.array, state: State, n_best: int = 1) -> list[list[Hypothesis]]:
        """Search the `n_best` best sequences after each of the tokens `first [B]`, best first.

        Args:
            first: the last token of each prompt.
            state: the decode state of B rows, before `first`.
            n_best: how many sequences to return per row.

        Raises:
            RunError: `n_best` is larger than the number of beams.
        """
        if not 1 <= n_best <= self.beams.n:
            raise RunError(
                f"n_best = {n_best} of {self.beams.n} beams: ask for 1 to {self.beams.n}."
            )
        B, K, L = first.shape[0], self.beams.n, self.limit
        state = tree_map(lambda x, r: mx.repeat(x, K, axis=0) if r else x, state, self._rows)
        hypotheses = {
            "last": mx.repeat(first, K),
            "alive": mx.where(mx.arange(K) == 0, 0.0, NEVER) + mx.zeros((B, 1)),
            "tokens": mx.full((B, K, L), self.ends[0], dtype=mx.int32),
            "done": mx.full((B, K), NEVER),
            "ended": mx.full((B, K, L), self.ends[0], dtype=mx.int32),
        }
        for t in range(L):
            hypotheses, state, ended = self._advance(
                hypotheses, state, mx.array(t), mx.array(n_best)
            )
            if ended.item():
                break
        return self._best(hypotheses, t + 1, n_best)

    def _advanced(
        self, hypotheses: dict[str, mx.array], state: State, t: mx.array, n_best: mx.array
    ) -> tuple[dict[str, mx.array], State, mx.array]:
        """Extend every sequence by a token; returns the beams, the state and whether to end."""
        B, K, _ = hypotheses["tokens"].shape
        logits, state = self._step(hypotheses["last"][:, None], state)
        logits = logits[:, -1, : self.vocab_size].astype(mx.float32)
        log_p = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
        total = (hypotheses["alive"][..., None] + log_p.reshape(B, K, -1)).reshape(B, -1)
        # Of 2 K candidates at most K end, so K unfinished ones are always among them.
        order = mx.argsort(-total, axis=-1)[:, : 2 * K]
        total = mx.take_along_axis(total, order, axis=-1)
        parent, token = order // logits.shape[-1], order % logits.shape[-1]
        tokens = mx.take_along_axis(hypotheses["tokens"], parent[..., None], axis=1)
        tokens = mx.where(mx.arange(self.limit) == t, token[..., None], tokens).astype(mx.int32)
        ends = (token[..., None] == mx.array(self.ends)).any(axis=-1)
        # Only one of the K best may end, so that one beam is greedy.
        done = mx.where(ends[:, :K], total[:, :K] / self.beams.penalty(t + 1), NEVER)
        done = mx.concatenate([hypotheses["done"], done], axis=1)
        ended = mx.concatenate([hypotheses["ended"], tokens[:, :K]], axis=1)
        best = mx.argsort(-done, axis=-1)[:, :K]
        going = mx.argsort(mx.where(ends, 1, 0) * 2 * K + mx.arange(2 * K), axis=-1)[:, :K]
        after = {
            "last": mx.take_along_axis(token, going, axis=1).reshape(-1).astype(mx.int32),
            "alive": mx.take_along_axis(mx.where(ends, NEVER, total), going, axis=1),
            "tokens": mx.take_along_axis(tokens, going[..., None], axis=1),
            "done": mx.take_along_axis(done, best, axis=1),
            "ended": mx.take_along_axis(ended, best[..., None], axis=1),
        }
        from_row = mx.take_along_axis(parent, going, axis=1) + mx.arange(B)[:, None] * K
        flat = from_row.reshape(-1)
        state = tree_map(lambda x, r: x[flat] if r else x, state, self._rows)
        return after, state, self._over(after, t + 1, n_best)

    def _over(
        self, hypotheses: dict[str, mx.array], length: mx.array, n_best: mx.array
    ) -> mx.array:
        """Whether no unfinished sequence can still be among the best."""
        done = hypotheses["done"]
        if self.beams.early:
            return (done > NEVER / 2).all()
        # A log-probability only falls; the penalty that favours it most is that of the limit.
        favour = self.beams.penalty(self.limit if self.beams.alpha > 0 else length)
        worst = mx.take_along_axis(done, mx.broadcast_to(n_best - 1, (done.shape[0], 1)), axis=1)
        hopeless: mx.array = hypotheses["alive"].max(axis=1) / favour <= worst[:, 0]
        return hopeless.all()

    def _best(
        self, hypotheses: dict[str, mx.array], length: int, n_best: int
    ) -> list[list[Hypothesis]]:
        """The best ended sequences; at the limit unfinished ones compete with them."""
        results = []
        cut = hypotheses["alive"] / self.beams.penalty(length)
        arrays = (hypotheses["done"], hypotheses["ended"], hypotheses["tokens"], cut)
        lists: list[Any] = [array.tolist() for array in arrays]
        for done, ended, tokens, alive in zip(*lists, strict=True):
            row = [
                Hypothesis(_before(sequence, self.ends), score, True)
                for score, sequence in zip(done, ended, strict=True)
                if score > NEVER / 2
            ]
            if length == self.limit or len(row) < n_best:
                row += [
                    Hypothesis(sequence[:length], score, False)
                    for score, sequence in zip(alive, tokens, strict=True)
                    if score > NEVER / 2
                ]
            results.append(sorted(row, key=lambda h: -h.score)[:n_best])
        return results


def _before(tokens: list[int], ends: list[int]) -> list[int]:
    return tokens[: next((i for i, token in enumerate(tokens) if token in ends), len(tokens))]
