"""Draft models of speculative decoding, and prompt lookup: they propose the next tokens."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeVar

import mlx.core as mx

from ..core.context import Context, Cursor
from ..core.errors import RunError
from ..layers.kinds import State
from ..layers.mtp import MtpStep
from ..models.model import Decodable
from .engine import CHUNK, dtype
from .reader import Cache, Reader, token_array, with_spare
from .sample import Sampling, filtered, inverse_cdf

S = TypeVar("S")
NGRAM = 3
"""Longest run of tokens that prompt lookup searches for."""


class Proposal(NamedTuple):
    """Tokens of a draft.

    Attributes:
        tokens: proposed tokens, `[n]`.
        probs: the distribution that each was drawn from, `[n, V]`.
    """

    tokens: mx.array
    probs: mx.array


class Text(NamedTuple):
    """A text so far, as a draft sees it.

    Attributes:
        known: its tokens; the target has read all but the last.
        hidden: vectors `[1, T, D]` that the target's head read in its last step; None before it.
        start: position of the first of them.
    """

    known: Sequence[int]
    hidden: mx.array | None
    start: int


class Distribution(NamedTuple):
    """How tokens are drawn from logits."""

    sampling: Sampling
    vocab_size: int

    def of(self, logits: mx.array) -> mx.array:
        """The distributions `[..., V]` of logits that may have more columns."""
        logits_kept = filtered(logits[..., : self.vocab_size], self.sampling)
        return mx.softmax(logits_kept, axis=-1, precise=True)


class Draft(Protocol):
    """Proposes the next tokens of a text."""

    def start(self, target: Reader, room: int, n: int, distribution: Distribution) -> None:
        """Begin a text of at most `room` tokens, of which n are proposed at once.

        Raises:
            RunError: the draft can't serve this model.
        """

    def propose(self, text: Text, uniform: mx.array) -> Proposal | None:
        """n tokens that may follow a text, drawn by `uniform [n]`; None: nothing is proposed."""


class ModelDraft:
    """A smaller model with the same tokenizer."""

    def __init__(self, model: Decodable) -> None:
        self.model = model

    def start(self, target: Reader, room: int, n: int, distribution: Distribution) -> None:
        """Begin a text."""
        self._reader = reader = Reader(self.model, room, n)

        def run(
            tokens: mx.array, cache: Cache, offset: mx.array, uniform: mx.array
        ) -> tuple[Proposal, Cache, Cache]:
            h, cache_before = reader.forward(tokens, cache, offset)
            end = offset + tokens.shape[0]

            def advance(
                i: int, token: mx.array, h: mx.array, cache: Cache
            ) -> tuple[mx.array, Cache]:
                return reader.forward(token, cache, end + i)

            proposal, after = draw_tokens(h, cache_before, advance, reader, distribution, uniform)
            return proposal, cache_before, after

        self._run = mx.compile(run, inputs=self.model.state)

    def propose(self, text: Text, uniform: mx.array) -> Proposal:
        """Draw tokens from the model, one after the other."""
        reader, tokens_so_far = self._reader, text.known
        if not reader.read:
            reader.read_until(tokens_so_far[:-1])
        # By position the last two tokens are read, since the draft lacks one or both of them.
        start = max(0, len(tokens_so_far) - 2) if reader.rewinds else reader.read
        tokens = token_array(tokens_so_far[start:])
        proposal, cache_before, after = self._run(tokens, reader.cache, mx.array(start), uniform)
        reader.cache, reader.read = (after if reader.rewinds else cache_before), len(tokens_so_far)
        return proposal


class EarlyExitDraft:
    """The first layers of the model itself, followed by its norm and head (self-speculation).

    They share the KV cache of the target. Elhoushi et al. 2024 (LayerSkip), section 3.3; for runs
    that were trained with early exits (objective early_exit).
    """

    def __init__(self, n_layers: int | None = None) -> None:
        """
        Args:
            n_layers: layers that run; None: a quarter of them, 1 at least.
        """
        self._n_layers = n_layers

    def start(self, target: Reader, room: int, n: int, distribution: Distribution) -> None:
        """Begin a text."""
        model, n_layers = target.model, len(target.cache)
        exit_after = max(1, n_layers // 4) if self._n_layers is None else self._n_layers
        if not 1 <= exit_after < n_layers:
            raise RunError(
                f"An early exit after {exit_after} of {n_layers} layers is no draft: set "
                f"--draft-layers from 1 to {n_layers - 1}."
            )
        refuse_state(target, "early exit")
        layers = model.stack.layers()[:exit_after]

        def forward(token: mx.array, cache: Cache, offset: mx.array) -> tuple[mx.array, Cache]:
            ctx = Context(cursor=Cursor(offset))
            x, after = model.embed_tokens(token[None], ctx), list(cache)
            for i, layer in enumerate(layers):
                x, after[i] = layer.step(x, cache[i], ctx)
            return model.norm(x), after

        def run(token: mx.array, cache: Cache, offset: mx.array, uniform: mx.array) -> Proposal:
            h, cache = forward(token, cache, offset)

            def advance(
                i: int, token: mx.array, h: mx.array, cache: Cache
            ) -> tuple[mx.array, Cache]:
                return forward(token, cache, offset + 1 + i)

            return draw_tokens(h, cache, advance, target, distribution, uniform)[0]

        self._target, self._exit_after = target, exit_after
        self._run = mx.compile(run, inputs=model.state)

    def propose(self, text: Text, uniform: mx.array) -> Proposal:
        """Draw tokens from the first layers, one after the other."""
        last = token_array(text.known[-1:])
        cache = self._target.cache[: self._exit_after]
        return self._run(last, cache, mx.array(len(text.known) - 1), uniform)


class MtpDraft:
    """The first block of the model's multi-token prediction (slot `ahead`), applied repeatedly.

    `h'_i = norm(block(M [norm(h_i); norm(embed(t_{i+1}))]))` predicts t_{i+2}, and stands for
    h_{i+1} in the next application; DeepSeek-AI 2024 (DeepSeek-V3), section 2.2; the repetition
    is that of EAGLE (Li et al. 2024).
    """

    def start(self, target: Reader, room: int, n: int, distribution: Distribution) -> None:
        """Begin a text."""
        model = target.model
        if "ahead" not in model:
            raise RunError(
                "The run has no multi-token prediction to draft with: train one with model.ahead "
                "and the objective multi_token (recipe deepseek_mtp_tiny), or take another --draft."
            )
        refuse_state(target, "multi-token prediction")
        step: MtpStep = model.ahead.chain[0]
        if not step.block.config.rewinds:
            raise RunError("The block of model.ahead has a decode state that can't go back.")
        self._cache: State = step.block.init_state(1, target.slots, dtype(model))
        self._cache = with_spare(self._cache, n)

        def forward(
            h: mx.array, tokens: mx.array, cache: State, offset: mx.array
        ) -> tuple[mx.array, State]:
            """From `h [1, T, D]` at position `offset` and the tokens `[T]` that follow each."""
            after = Context(cursor=Cursor(offset + 1), position=model.position)
            ctx = Context(cursor=Cursor(offset), position=model.position)
            x, cache = step.step(h, model.embed(tokens[None], after), cache, ctx)
            return step.norm(x), cache

        def run(
            h: mx.array,
            tokens: mx.array,
            count: mx.array,
            cache: State,
            offset: mx.array,
            uniform: mx.array,
        ) -> tuple[Proposal, State]:
            h, cache = forward(h, tokens, cache, offset)

            def advance(
                i: int, token: mx.array, h: mx.array, cache: State
            ) -> tuple[mx.array, State]:
                return forward(h, token, cache, offset + count + i)

            h = mx.take(h, count - 1, axis=1)[:, None]
            return draw_tokens(h, cache, advance, target, distribution, uniform)

        self._forward = forward
        self._run = mx.compile(run, inputs=model.state)

    def propose(self, text: Text, uniform: mx.array) -> Proposal | None:
        """Draw tokens from the block, one after the other."""
        h, start = text.hidden, text.start
        if h is None:
            return None
        width = uniform.size + 1
        while h.shape[1] > width:
            n = min(CHUNK, h.shape[1] - width)
            tokens = token_array(text.known[start + 1 : start + 1 + n])
            _, self._cache = self._forward(h[:, :n], tokens, self._cache, mx.array(start))
            mx.eval(self._cache)
            h, start = h[:, n:], start + n
        following = list(text.known[start + 1 :])
        count, padded = len(following), following + [0] * (h.shape[1] - len(following))
        arrays = (token_array(padded), mx.array(count))
        proposal, self._cache = self._run(h, *arrays, self._cache, mx.array(start), uniform)
        return proposal


class PromptLookup:
    """The tokens that followed the last few tokens where these occurred before (Saxena 2023)."""

    def start(self, target: Reader, room: int, n: int, distribution: Distribution) -> None:
        """Begin a text."""
        self._vocab_size = distribution.vocab_size
        self._followed: dict[tuple[int, ...], int] = {}
        self._indexed = 0

    def propose(self, text: Text, uniform: mx.array) -> Proposal | None:
        """Copy what followed the last occurrence of the longest run that has one."""
        tokens_so_far = text.known
        for end in range(self._indexed + 1, len(tokens_so_far)):
            for size in range(1, min(NGRAM, end) + 1):
                self._followed[tuple(tokens_so_far[end - size : end])] = end
        self._indexed = max(len(tokens_so_far) - 1, 0)
        for size in range(min(NGRAM, len(tokens_so_far)), 0, -1):
            place = self._followed.get(tuple(tokens_so_far[-size:]))
            if place is not None:
                # A copy that reaches the end of the text goes on with what it has copied.
                period = len(tokens_so_far) - place
                tokens = token_array(
                    [tokens_so_far[place + i % period] for i in range(uniform.size)]
                )
                certain = tokens[:, None] == mx.arange(self._vocab_size)
                return Proposal(tokens, certain.astype(mx.float32))
        return None


def draw_tokens(
    h: mx.array,
    state: S,
    advance: Callable[[int, mx.array, mx.array, S], tuple[mx.array, S]],
    reader: Reader,
    distribution: Distribution,
    uniform: mx.array,
) -> tuple[Proposal, S]:
    """Draw n tokens one after the other.

    Args:
        h: vectors `[1, T, D]` for the head; the last of them predicts the first token.
        state: the decode state after them.
        advance: number, token `[1]`, vectors and state to the vectors that predict the next token,
            and the new state.
        reader: has the head.
        distribution: how tokens are drawn.
        uniform: `[n]`, from 0 to 1.
    """
    tokens, probs = [], []
    for i in range(uniform.size):
        probs.append(distribution.of(reader.logits(h[:, -1:])))
        tokens.append(inverse_cdf(probs[-1], uniform[i : i + 1]))
        if i + 1 < uniform.size:
            h, state = advance(i, tokens[-1], h, state)
    return Proposal(mx.concatenate(tokens), mx.concatenate(probs)), state


def refuse_state(target: Reader, draft: str) -> None:
    """Raise RunError if the decode state of a model can't go back by position."""
    if not target.rewinds:
        raise RunError(
            f"A draft by {draft} needs a model whose decode state is a KV cache: attention or "
            "latent attention in every layer. Take --draft lookup, or a smaller run."
        )
