"""Speculative decoding: a draft proposes tokens, and the model checks them all in one step.

A token x of the draft's distribution q is accepted with probability `min(1, p(x) / q(x))`; after
the first that isn't, a token is drawn from `max(p - q, 0)`, normalised. The text then has exactly
the distribution p of the model; Leviathan et al. 2022, algorithm 1; Chen et al. 2023.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import mlx.core as mx
import numpy as np

from ..core.errors import RunError
from ..models.model import Decodable
from .drafts import Distribution, Draft, Proposal, Text
from .packed_cache import CachePacking
from .reader import Cache, Reader, token_array
from .sample import NO_TOKEN, NOT_FINITE, Sampling, inverse_cdf

LENGTH = 4
"""Tokens that a draft proposes at once."""
PENDING = 8
"""Accepted tokens that a state which can't go back reads again; more are read once and kept."""

Checked = tuple[mx.array, mx.array, mx.array, Cache]
"""Next tokens `[n + 1]` of which the first `count` are valid, `count`, the vectors `[1, T, D]` that
the head read, and the state after all tokens that were read."""


class SpeculativeEngine:
    """Continues one prompt with a draft, a compiled step of the model for several tokens.

    Attributes:
        model: the model whose text it is.
        accepted_per_step: mean number of tokens that a step of the model gave.
    """

    def __init__(
        self,
        model: Decodable,
        draft: Draft,
        *,
        sampling: Sampling | None = None,
        vocab_size: int | None = None,
        length: int = LENGTH,
        packing: CachePacking | None = None,
    ) -> None:
        self._packing = packing
        self.model, self._draft, self._length = model, draft, length
        sampling = sampling or Sampling()
        self._distribution = Distribution(sampling, vocab_size or model.vocab_size)
        if sampling.repetition_penalty != 1:
            raise RunError(
                "A draft can't go with a repetition penalty, which depends on the tokens before: "
                "leave out --repetition-penalty, or the draft."
            )
        if length < 1:
            raise RunError(f"A draft proposes at least 1 token at once, not {length}.")
        self._steps = self._given = 0

    @property
    def accepted_per_step(self) -> float:
        return self._given / max(self._steps, 1)

    @property
    def cache(self) -> list[Any]:
        """The decode state of the model."""
        return self._reader.cache

    def start(self, prompts: Sequence[Sequence[int]], seeds: Sequence[int] | None = None) -> None:
        """Begin a text.

        Raises:
            RunError: there isn't exactly one prompt, or it has no token.
        """
        if len(prompts) != 1 or not len(prompts[0]):
            raise RunError("A draft helps one prompt of at least one token.")
        self._prompt = [int(token) for token in prompts[0]]
        self._rng = np.random.default_rng((seeds or [0])[0])
        self._steps = self._given = 0

    def tokens(self, limit: int) -> Iterator[list[int]]:
        """Yield up to `limit` times the next token.

        Raises:
            RunError: the model's logits are not finite numbers, or the text is too long for the
                draft.
        """
        room = len(self._prompt) + limit
        self._reader = Reader(self.model, room, self._length, self._packing)
        self._draft.start(self._reader, room, self._length, self._distribution)
        self._check = compiled_check(self._reader, self._distribution)
        sequence, end = list(self._prompt), room
        text = Text(sequence, self._reader.read_until(sequence[:-1]), 0)
        while len(sequence) < end:
            accepted, text = self._step(text)
            for token in accepted[: end - len(sequence)]:
                sequence.append(token)
                yield [token]

    def _step(self, text: Text) -> tuple[list[int], Text]:
        """The next tokens, one at least: those of the draft that are accepted, and one more."""
        reader, sequence, n = self._reader, text.known, self._length
        fits = len(sequence) + n <= reader.slots
        proposal = self._draft.propose(text, self._uniform(n)) if fits else None
        if len(sequence) - reader.read > PENDING:
            reader.read_until(sequence[:-1])
        start = reader.read
        arrays = (token_array(sequence[start:]), reader.cache, mx.array(start))
        if proposal is None:
            new, count, hidden, after = self._check(*arrays, self._uniform(1))
        else:
            new, count, hidden, after = self._check(*arrays, self._uniform(n + 1), *proposal)
        mx.eval(new, count, hidden, after)
        accepted = cast(list[int], new.tolist())[: cast(int, count.item())]
        if NO_TOKEN in accepted:
            raise RunError(NOT_FINITE)
        if reader.rewinds or len(accepted) == new.size:
            reader.cache, reader.read = after, len(sequence) + len(accepted) - 1
        self._steps, self._given = self._steps + 1, self._given + len(accepted)
        return accepted, Text(sequence, hidden, start)

    def _uniform(self, n: int) -> mx.array:
        return mx.array(self._rng.random(n, dtype=np.float32))


def compiled_check(reader: Reader, distribution: Distribution) -> Callable[..., Checked]:
    """The compiled step `(tokens [T], state, offset, uniform, draft, its probabilities) -> Checked`
    of a model that reads its last tokens and those of a draft, if there is one."""

    def check(
        tokens: mx.array,
        cache: Cache,
        offset: mx.array,
        uniform: mx.array,
        drafted: mx.array | None = None,
        q: mx.array | None = None,
    ) -> Checked:
        if drafted is not None:
            tokens = mx.concatenate([tokens, drafted.astype(tokens.dtype)])
        h, after = reader.forward(tokens, cache, offset)
        logits = reader.logits(h[:, -uniform.size :])
        p = distribution.of(logits)
        if drafted is None or q is None:
            new, count = inverse_cdf(p, uniform), mx.array(1)
        else:
            new, count = accept_tokens(Proposal(drafted, q), p, uniform)
        finite = mx.isfinite(logits.astype(mx.float32).sum())
        return mx.where(finite, new, NO_TOKEN), count, h, after

    return mx.compile(check, inputs=reader.model.state)


def accept_tokens(proposal: Proposal, p: mx.array, uniform: mx.array) -> tuple[mx.array, mx.array]:
    """Return the accepted tokens of a draft and the one that follows them.

    Args:
        proposal: n tokens and their distributions.
        p: the model's distributions of those tokens and of the next, `[n + 1, V]`.
        uniform: numbers from 0 to 1, `[n + 1]`.

    Returns:
        Tokens `[n + 1]`, and how many of them there are, 1 at least.
    """
    tokens, q = proposal.tokens[:, None], proposal.probs
    n = tokens.shape[0]
    p_token, q_token = (mx.take_along_axis(probs, tokens, axis=1)[:, 0] for probs in (p[:n], q))
    accepted = mx.cumprod((uniform[:n] * q_token < p_token).astype(mx.int32)).sum()
    at = mx.take(p, accepted, axis=0)
    residual = mx.maximum(at - mx.take(mx.pad(q, [(0, 1), (0, 0)]), accepted, axis=0), 0)
    # Rounding may leave nothing where p and q are almost equal.
    last = inverse_cdf(mx.where(residual.sum() > 0, residual, at), uniform[n])
    drafted = mx.concatenate([tokens[:, 0], mx.zeros((1,), tokens.dtype)])
    return mx.where(mx.arange(n + 1) < accepted, drafted, last), accepted + 1
