"""Early exit: decoding that leaves the stack at the first layer whose prediction is confident."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast, get_args

import mlx.core as mx

from ..core.context import Context, Cursor
from ..core.errors import RunError, unknown
from ..layers.depths.universal import UniversalDepth
from ..models.decoder import DecoderModel
from ..models.model import Decodable
from ..ops.exits import Measure, confident
from .engine import dtype
from .sample import NO_TOKEN, NOT_FINITE, Sampling, sample


@dataclass(frozen=True)
class Exits:
    """When decoding leaves the stack.

    Attributes:
        threshold: of the measure; `entropy` must be below it, the others above it.
        measure: confidence of a layer's prediction, computed through the model's norm and head.
        first: layers that every token runs through.
    """

    threshold: float
    measure: Measure = "max_prob"
    first: int = 1

    def __post_init__(self) -> None:
        if self.measure not in get_args(Measure):
            raise RunError(unknown("measure of confidence", self.measure, get_args(Measure)))
        if not 0 < self.threshold <= 1:
            raise RunError(
                f"The threshold of confidence is {self.threshold}: give a number above 0 and at "
                "most 1."
            )
        if self.first < 1:
            raise RunError(f"A token runs through at least 1 layer, not {self.first}.")


class ExitEngine:
    """Continues one prompt; each token runs through the layers until one is confident.

    A later layer reads a token only when some token needs that layer: then it reads all that have
    waited, in one step, so that keys and values are those of the whole model. With a threshold that
    nothing reaches the text is that of `Engine`. Schuster et al. 2022 (CALM) copy the vector of the
    exit to later layers instead.

    Attributes:
        cache: the decode state of every layer.
        layers_per_token: mean number of layers that the tokens so far were predicted after.
    """

    def __init__(
        self,
        model: Decodable,
        exits: Exits,
        *,
        sampling: Sampling | None = None,
        vocab_size: int | None = None,
    ) -> None:
        if not isinstance(model, DecoderModel) or model.recompute_beyond is not None:
            raise RunError("Decoding with early exits is built for decoders with a fixed RoPE.")
        if isinstance(model.stack.get("depth"), UniversalDepth):
            raise RunError(
                "A Universal Transformer weighs the outputs of all steps, so decoding can't leave "
                "it early: leave out the threshold of confidence."
            )
        if model.soft_prompt() is not None:
            raise RunError(
                "Decoding with early exits is not built for a soft prompt (adapt.kind = 'prompt'): "
                "leave out --exit-threshold."
            )
        self.model = model
        self.cache: list[Any] = []
        self._exits = exits
        self._sampling = sampling or Sampling()
        self._vocab_size = vocab_size or model.vocab_size
        self._used: list[int] = []

    @property
    def layers_per_token(self) -> float:
        return sum(self._used) / max(len(self._used), 1)

    def start(self, prompts: Sequence[Sequence[int]], seeds: Sequence[int] | None = None) -> None:
        """Begin a text.

        Raises:
            RunError: there isn't exactly one prompt, or it has no token.
        """
        if len(prompts) != 1 or not len(prompts[0]):
            raise RunError("Decoding with early exits continues one prompt of at least one token.")
        self._prompt = [int(token) for token in prompts[0]]
        self._keys = mx.stack([mx.random.key(seed) for seed in (seeds or [0])])
        self._used = []

    def tokens(self, limit: int) -> Iterator[list[int]]:
        """Yield up to `limit` times the next token.

        Raises:
            RunError: the model's logits are not finite numbers.
        """
        model, room = self.model, len(self._prompt) + limit
        model.position.admit(room)
        self.cache = model.stack.init_state(1, room, dtype(model))
        self._waiting: list[list[mx.array]] = [[] for _ in self.cache]
        self._read = [0] * len(self.cache)
        sequence = list(self._prompt)
        step = sequence
        for _ in range(limit):
            token = self._draw(self._logits(mx.array([step], dtype=mx.int32)), sequence)
            if token == NO_TOKEN:
                raise RunError(NOT_FINITE)
            sequence.append(token)
            step = [token]
            yield [token]

    def _logits(self, tokens: mx.array) -> mx.array:
        """The logits `[1, V]` after `tokens [1, T]`, of the first layer that is confident."""
        model, layers = self.model, self.model.stack.layers()
        ctx = Context(cursor=Cursor(mx.array(self._read[0])))
        x = model.embed_tokens(tokens, ctx)
        logits = mx.zeros((1, model.vocab_size))
        for i, layer in enumerate(layers):
            self._waiting[i].append(x)
            rows = mx.concatenate(self._waiting[i], axis=1)
            layer_ctx = Context(cursor=Cursor(mx.array(self._read[i])), position=model.position)
            x, self.cache[i] = layer.step(rows, self.cache[i], layer_ctx)
            self._waiting[i] = []
            self._read[i] += rows.shape[1]
            if i + 1 < self._exits.first and i + 1 < len(layers):
                continue
            logits = model.head(model.norm(x[:, -1:]), model.embed.table)[:, 0]
            if i + 1 == len(layers) or self._is_confident(logits):
                self._used.append(i + 1)
                if i + 1 < len(layers):
                    self._waiting[i + 1].append(x)
                break
        mx.eval(logits, self.cache, self._waiting)
        return logits

    def _is_confident(self, logits: mx.array) -> bool:
        exits, vocabulary_logits = self._exits, logits[:, : self._vocab_size]
        return bool(confident(vocabulary_logits, exits.measure, exits.threshold).item())

    def _draw(self, logits: mx.array, known: list[int]) -> int:
        """The next token; NO_TOKEN where the logits are not finite."""
        width = self._sampling.history_size(self.model.max_seq_len)
        recent = known[-width:] if width else []
        history = mx.array([[NO_TOKEN] * (width - len(recent)) + recent], dtype=mx.int32)
        pairs = mx.vmap(mx.random.split)(self._keys)
        self._keys = pairs[:, 1]
        logits = logits[:, : self._vocab_size]
        if not bool(mx.isfinite(logits.astype(mx.float32).sum()).item()):
            return NO_TOKEN
        chosen = sample(logits, pairs[:, 0], history.reshape(1, width), self._sampling)
        return cast(list[int], chosen.tolist())[0]
