"""A text as a model reads it: the arrays of one row, and the names of its tokens."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import cast

import mlx.core as mx
import numpy as np

from ..core.context import Collected, Context, Observer
from ..core.errors import RunError
from ..core.task import described
from ..data.batches.pairs import Pairs
from ..data.pictures.preprocess import read_resized
from ..data.pictures.prompt import PLACEHOLDER, expanded, placed
from ..data.tokenizers.controls import Controlled, frame, with_controls
from ..data.tokenizers.tokenizer import Tokenizer
from ..decode.beam import Beams, best_targets
from ..decode.generate import prompt_tokens
from ..layers.adapters.prefix import PrefixKeys
from ..layers.adapters.prompt import PromptVectors
from ..models.encoder_decoder import EncoderDecoderModel
from ..models.model import Aligning, Decodable, Model
from ..models.vlm import VlmModel

MOST_TOKENS = 1024
"""The longest text of a page: a head's matrix has as many rows and columns."""
TARGET_TOKENS = 64
"""The most tokens that an encoder-decoder writes for a source."""


@dataclass(frozen=True)
class Reading:
    """One row, and the model that reads it.

    Attributes:
        model: the model.
        tokenizer: its tokenizer.
        arrays: `tokens [1, T]`, and what else `Model.embedded` reads.
        source: tokens of the encoder's source, in the order of the text; empty: no source.
        backwards: whether the model reads the source from its end.
        ahead: whether the prediction at a position is that of the next token (a language model),
            or of the position's own (an encoder).
    """

    model: Model
    tokenizer: Tokenizer
    arrays: Mapping[str, mx.array]
    source: list[int]
    ahead: bool
    backwards: bool = False

    @cached_property
    def tokens(self) -> list[int]:
        """The tokens of the row."""
        return cast(list[int], self.arrays["tokens"][0].tolist())

    def in_order(self, matrix: mx.array) -> mx.array:
        """A matrix `[..., S]` over the source as it is read, in the order of the text."""
        n = len(self.source)
        return matrix[..., mx.array([*range(n - 2, -1, -1), n - 1])] if self.backwards else matrix

    def text(self, token: int) -> str:
        """A token as text, a control token as its name in brackets."""
        return surface(self.tokenizer, token)

    def texts(self) -> list[str]:
        """The tokens of the row as text; a patch of a picture is its number."""
        sees = isinstance(self.model, VlmModel) and "pixels" in self.arrays
        image = self.model.image_token if sees else None
        numbers = count(1)
        return [
            f"[patch {next(numbers)}]" if token == image else self.text(token)
            for token in self.tokens
        ]

    @property
    def vocab_size(self) -> int:
        """Tokens that model and tokenizer know."""
        return min(self.model.vocab_size, self.tokenizer.vocab_size)

    def context(self, observer: Observer | None = None) -> Context:
        """The context of a pass."""
        ctx = Context(collected=Collected(observer=observer))
        if not self.ahead:
            types = mx.zeros(self.arrays["tokens"].shape, mx.int32)
            ctx.layout = replace(ctx.layout, causal=False, types=types)
        return ctx

    def embedded(self, ctx: Context, rows: int = 1) -> mx.array:
        """The input of the first layer, the row repeated `rows` times, `[rows, T, D]`."""
        arrays = {n: mx.repeat(array, rows, axis=0) for n, array in self.arrays.items()}
        return self.model.embedded(arrays, ctx)

    def logits(self, x: mx.array, ctx: Context) -> mx.array:
        """Logits `[rows, T, V]` in float32 for the input `x` of the first layer."""
        return self.unembedded(self.model.hidden(x, ctx)[:, -len(self.tokens) :])

    def unembedded(self, h: mx.array) -> mx.array:
        """Logits in float32 of vectors that meet the unembedding; tokens that the tokenizer
        lacks are left out."""
        head = self.model.unembedding()
        assert head is not None, "read has seen to the head"
        return head.logits_upcast(h)[..., : self.vocab_size]

    def run(self, observer: Observer | None = None, rows: int = 1) -> mx.array:
        """Logits `[rows, T, V]` of a pass that an observer sees."""
        ctx = self.context(observer)
        return self.logits(self.embedded(ctx, rows), ctx)


def read(
    model: Model,
    tokenizer: Tokenizer,
    text: str,
    *,
    pairs: Pairs | None = None,
    target: str | None = None,
    image: Path | None = None,
) -> Reading:
    """Make the row of a text.

    Args:
        model, tokenizer: those of a run.
        text: a prompt, an encoder's text, or the source of an encoder-decoder.
        pairs: how an encoder-decoder's source and target are framed; None: as usual.
        target: of an encoder-decoder; None: the one that it finds most probable, word by word.
        image: a picture file for a model that sees; its patches stand where the text has
            `<image>`, or before it.

    Raises:
        RunError: the text is empty or too long, the model has no head over the vocabulary or reads
            trained vectors before the text, an image or a target is given to a model that reads
            none, or `<image>` stands in the text twice, or without an image.
        DataError: the image can't be read.
    """
    _check(model, image)
    if "seq2seq" in model.tasks and isinstance(model, Aligning):
        reading = _pair(model, tokenizer, text, pairs or Pairs(), target)
    elif target is not None:
        raise RunError("This run's model reads one text, and no target. Leave --target out.")
    elif "encode" in model.tasks:
        tokens = tokenizer.encode_special(text)
        if not tokens:
            raise RunError("The text is empty. Give at least one token to look at.")
        ends = frame(tokenizer)
        tokens = tokens if ends is None else [ends[0], *tokens, ends[1]]
        reading = Reading(model, tokenizer, {"tokens": mx.array([tokens])}, [], False)
    else:
        if isinstance(model, VlmModel) and image is not None:
            arrays = _with_picture(model, tokenizer, text, image)
        elif isinstance(model, VlmModel) and PLACEHOLDER in text:
            raise RunError(f"The text has {PLACEHOLDER}, and there is no picture: --image FILE.")
        else:
            size = min(model.vocab_size, tokenizer.vocab_size)
            tokens = prompt_tokens(tokenizer, text, size, special_tokens=True)
            arrays = {"tokens": mx.array([tokens])}
        reading = Reading(model, tokenizer, arrays, [], True)
    longest = max(len(reading.tokens), len(reading.source))
    if longest > (limit := min(model.max_seq_len, MOST_TOKENS)):
        raise RunError(
            f"The text has {longest:,} tokens, and at most {limit:,} can be looked at (the "
            f"model's max_seq_len, or {MOST_TOKENS:,}). Shorten it."
        )
    return reading


def _check(model: Model, image: Path | None) -> None:
    """Refuse a model that can't be looked at, or an image for one that reads none."""
    if any(isinstance(m, PrefixKeys | PromptVectors) for _, m in model.named_modules()):
        raise RunError(
            "This run has trained vectors before the text (adapt.kind = 'prompt' or 'prefix'), "
            "which are no tokens to look at. Look at the run that it was trained from."
        )
    if model.unembedding() is None:
        raise RunError(
            f"This run's model is {described(model.tasks)}. It has no head over the vocabulary, so "
            "it predicts no token to look at. Look at a language model, a masked one, or an "
            "encoder-decoder."
        )
    if image is not None and not isinstance(model, VlmModel):
        raise RunError("This run's model reads no picture. Leave --image out.")
    if isinstance(model, EncoderDecoderModel) and model.source_name != "source":
        raise RunError(
            f"This run's encoder reads {model.source_name}, not text, so there is no source to "
            "look at."
        )


def _with_picture(
    model: VlmModel, tokenizer: Tokenizer, text: str, image: Path
) -> dict[str, mx.array]:
    """The arrays of a row whose image tokens are as many as the picture has patches."""
    prompt = text if PLACEHOLDER in text else PLACEHOLDER + text
    if (count := prompt.count(PLACEHOLDER)) > 1:
        raise RunError(
            f"The text has {PLACEHOLDER} {count} times, and there is one picture: write it once, "
            "where the picture stands."
        )
    resized = read_resized(image, model.image_size, model.channels)
    pixels = mx.array(resized.astype(np.int32))[None]  # whole numbers, which the patches scale
    tokens = np.array(placed(tokenizer, prompt, model.image_token))
    row = mx.array(expanded(tokens, model.image_token, model.image_token_count(pixels)))[None]
    model.admit(row, pixels)
    return {"tokens": row, "pixels": pixels}


def _pair(
    model: Decodable, tokenizer: Tokenizer, text: str, pairs: Pairs, target: str | None
) -> Reading:
    """The source, and the target that is given or found."""
    ready = with_controls(tokenizer, (pairs.start, "end"))
    source = pairs.source(text, ready)
    start, end = ready.control(pairs.start), ready.control("end")
    if max(start, end) >= model.vocab_size:
        raise RunError(
            "This run's tokenizer has no token that begins or ends a target. Train it on pairs, "
            "or import it with its tokenizer."
        )
    if len(source) > model.max_seq_len:
        raise RunError(
            f"The source has {len(source):,} tokens, and the model reads {model.max_seq_len:,} at "
            "most (model.max_seq_len). Shorten it."
        )
    if target is None:
        best = best_targets(
            model,
            mx.array([source], dtype=mx.int32),
            start=start,
            end=end,
            limit=min(TARGET_TOKENS, model.max_seq_len - 1),
            beams=Beams(1),
            vocab_size=min(model.vocab_size, ready.vocab_size),
        )[0][0]
        written = [*best.tokens, *([end] if best.ended else [])]
    else:
        written = [*ready.encode(target), end]
    arrays = {"tokens": mx.array([[start, *written]]), "source": mx.array([source])}
    if pairs.reverse_source:
        source = [*source[-2::-1], source[-1]]
    return Reading(model, ready, arrays, source, True, pairs.reverse_source)


def surface(tokenizer: Tokenizer, token: int) -> str:
    """A token's text inside a line; a control token is its role or name in brackets."""
    if isinstance(tokenizer, Controlled):
        role = next((r for r, t in tokenizer.controls.items() if t == token), None)
        if role is not None:
            return f"[{role}]"
    special = next(
        (name for name, token_id in tokenizer.special_ids.items() if token_id == token), None
    )
    return tokenizer.surface(token) if special is None else special
