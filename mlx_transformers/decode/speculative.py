"""Speculative decoding: a draft proposes tokens, and the model checks them all in one step.

A token x of the draft's distribution q is accepted with probability `min(1, p(x) / q(x))`; after
the first that isn't, a token is drawn from `max(p - q, 0)`, normalised. The text then has exactly
the distribution p of the model; Leviathan et al. 2022, algorithm 1; Chen et al. 2023.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import mlx.core as mx
import numpy as np

from ..core.context import Context, Cursor
from ..core.errors import RunError
from ..layers.depths.universal import UniversalDepth
from ..models.decoder import DecoderModel
from ..models.model import Decodable
from .engine import dtype
from .sample import Sampling, filtered

LENGTH = 4
"""Tokens that a draft proposes at once."""
PENDING = 8
"""Accepted tokens that may be read again; more are read once and kept."""
NGRAM = 3
"""Longest run of tokens that prompt lookup searches for."""


class Proposal(NamedTuple):
    """Tokens of a draft.

    Attributes:
        tokens: what it proposes.
        probs: the distribution that each was drawn from, `[n, V]`.
    """

    tokens: list[int]
    probs: np.ndarray


class Draft(Protocol):
    """Proposes the next tokens of a text."""

    def start(self, sampling: Sampling, vocab_size: int, room: int) -> None:
        """Begin a text of at most `room` tokens."""

    def propose(self, known: Sequence[int], n: int, rng: np.random.Generator) -> Proposal:
        """Up to n tokens that may follow the known ones."""


class Reader:
    """Reads a text with a decoder, from a decode state that can go back.

    States are never changed in place, so going back is keeping the one before: where a text goes
    on otherwise than it was read, its accepted tokens are read again with the next ones. This holds
    for caches, windows and recurrent states alike.
    """

    def __init__(self, model: Decodable, sampling: Sampling, vocab_size: int, room: int) -> None:
        if not isinstance(model, DecoderModel) or model.recompute_beyond is not None:
            raise RunError("Speculative decoding is built for decoders with a fixed RoPE.")
        if isinstance(model.stack.get("depth"), UniversalDepth):
            raise RunError("Speculative decoding is not built for Universal Transformers.")
        if room > model.max_seq_len:
            raise RunError(
                f"The text may have {room:,} tokens, and a model that reads it has a context of "
                f"{model.max_seq_len:,}: ask for fewer with --max-tokens, or take another --draft."
            )
        self.model: DecoderModel = model
        self.sampling, self.vocab_size = sampling, vocab_size
        model.position.admit(room)
        self.cache: list[Any] = model.stack.init_state(1, room, dtype(model))
        self.read = 0
        self._ahead: tuple[list[int], list[Any]] | None = None

    def probs(self, known: Sequence[int], after: int) -> np.ndarray:
        """The distributions of the tokens that follow the last `after` known ones, `[after, V]`."""
        if self._ahead is not None and list(known[: len(self._ahead[0])]) == self._ahead[0]:
            self.adopt()
        if len(known) - after - self.read > PENDING:
            self._step(known[: len(known) - after])
            self.adopt()
        logits = self._step(known)
        found = mx.softmax(filtered(logits[-after:, : self.vocab_size], self.sampling), axis=-1)
        out = np.array(found.astype(mx.float32), np.float64)
        if not np.isfinite(out).all():
            raise RunError("The model's logits are not finite numbers (NaN or infinity).")
        shares: np.ndarray = out / out.sum(axis=-1, keepdims=True)
        return shares

    def adopt(self) -> None:
        """Keep the state after all tokens that were read last."""
        if self._ahead is not None:
            tokens, self.cache = self._ahead
            self.read, self._ahead = len(tokens), None

    def go_back(self, cache: list[Any], read: int) -> None:
        """Return to an earlier state."""
        self.cache, self.read, self._ahead = cache, read, None

    def _step(self, known: Sequence[int]) -> mx.array:
        """The logits `[T, V]` after the known tokens that the state lacks."""
        model = self.model
        ctx = Context(cursor=Cursor(mx.array(self.read)))
        x = model.embed_tokens(mx.array([known[self.read :]], dtype=mx.int32), ctx)
        own = Context(cursor=Cursor(mx.array(self.read)), position=model.position)
        after = []
        for layer, state in zip(model.stack.layers(), self.cache, strict=True):
            x, state = layer.step(x, state, own)
            after.append(state)
        logits = model.head(model.norm(x), model.embed.table)[0]
        mx.eval(logits, after)
        self._ahead = (list(known), after)
        return logits


class ModelDraft:
    """A smaller model with the same tokenizer."""

    def __init__(self, model: Decodable) -> None:
        self.model = model

    def start(self, sampling: Sampling, vocab_size: int, room: int) -> None:
        """Begin a text."""
        self._reader = Reader(self.model, sampling, vocab_size, room)

    def propose(self, known: Sequence[int], n: int, rng: np.random.Generator) -> Proposal:
        """Draw tokens from the model, one after the other."""
        reader, text, probs = self._reader, list(known), list[np.ndarray]()
        for i in range(n):
            probs.append(reader.probs(text, 1)[0])
            text.append(drawn(probs[-1], rng))
            if i == 0:
                reader.adopt()
                kept = reader.cache, reader.read
        reader.go_back(*kept)
        return Proposal(text[len(known) :], np.array(probs))


class PromptLookup:
    """The tokens that followed the last few tokens where these occurred before (Saxena 2023)."""

    def start(self, sampling: Sampling, vocab_size: int, room: int) -> None:
        """Begin a text."""
        self._vocab_size = vocab_size

    def propose(self, known: Sequence[int], n: int, rng: np.random.Generator) -> Proposal:
        """Copy what followed the longest earlier occurrence; nothing if there is none."""
        text = list(known)
        for size in range(min(NGRAM, len(text) - 1), 0, -1):
            last = text[-size:]
            for start in range(len(text) - size - 1, -1, -1):
                if text[start : start + size] == last:
                    tokens = text[start + size : start + size + n]
                    probs = np.zeros((len(tokens), self._vocab_size))
                    probs[np.arange(len(tokens)), tokens] = 1
                    return Proposal(tokens, probs)
        return Proposal([], np.zeros((0, self._vocab_size)))


class SpeculativeEngine:
    """Continues one prompt with a draft.

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
    ) -> None:
        self.model, self._draft, self._length = model, draft, length
        self._sampling = sampling or Sampling()
        self._vocab_size = vocab_size or model.vocab_size
        if self._sampling.repetition_penalty != 1:
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
        self._reader = Reader(self.model, self._sampling, self._vocab_size, room)
        self._draft.start(self._sampling, self._vocab_size, room)
        known, end = list(self._prompt), room
        while len(known) < end:
            for token in self.step(known)[: end - len(known)]:
                known.append(token)
                yield [token]

    def step(self, known: Sequence[int]) -> list[int]:
        """The next tokens, one at least: those of the draft that are accepted, and one more."""
        left = self._reader.model.max_seq_len - len(known) - 1
        n = max(0, min(self._length, left))
        proposal = self._draft.propose(known, n, self._rng) if n else Proposal([], np.zeros((0, 1)))
        probs = self._reader.probs([*known, *proposal.tokens], len(proposal.tokens) + 1)
        found = verified(proposal, probs, self._rng)
        self._steps, self._given = self._steps + 1, self._given + len(found)
        return found


def verified(proposal: Proposal, probs: np.ndarray, rng: np.random.Generator) -> list[int]:
    """Return the accepted tokens of a draft and the one that follows them.

    Args:
        proposal: n tokens and their distributions.
        probs: the model's distributions of those tokens and of the next, `[n + 1, V]`.
        rng: the source of randomness.
    """
    for i, token in enumerate(proposal.tokens):
        p, q = probs[i], proposal.probs[i]
        if rng.random() * q[token] >= p[token]:
            rest = np.maximum(p - q, 0)
            return [*proposal.tokens[:i], drawn(rest / rest.sum(), rng)]
    return [*proposal.tokens, drawn(probs[len(proposal.tokens)], rng)]


def drawn(probs: np.ndarray, rng: np.random.Generator) -> int:
    """Draw a token from its distribution `[V]`."""
    cumulative = np.cumsum(probs)
    place = np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right")
    return int(min(place, np.flatnonzero(probs)[-1]))
