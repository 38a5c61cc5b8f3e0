"""Pictures with a prompt and the text that answers it, for vision-language models."""

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from ...core.errors import DataError
from ..example_rows import RecordExamples, RecordRows, Row
from ..kinds import BatchSetting, Columns
from ..pictures.prompt import PLACEHOLDER, expanded, placed
from ..pieces import Piece, Record, RowError
from ..prepared import Prepared
from ..records import Records
from ..shards import Split
from ..tokenizers.tokenizer import Tokenizer
from .fields import string, with_words
from .picture_kind import PictureKind


class Captions(PictureKind):
    """A picture, a prompt and the text that answers it, per row (LLaVA: Liu et al. 2023, section
    4.2).

    `pixels` [B, height, width, channels], `tokens` [B, T + 1], in which the prompt's `<image>` is
    one image token for each patch, and `weights` [B, T]: 1 where a token of the text or its end is
    predicted. A record whose picture is missing, empty or null is text alone: its pixels are zeros
    that no token reads.
    """

    kind: Literal["captions"] = "captions"
    gives: ClassVar[tuple[str, ...]] = ("pixels", "tokens", "weights")

    prompt_key: str | None = None
    """Field of the prompt, which holds `<image>` where the picture stands; none means `prompt`."""
    prompt: str = PLACEHOLDER
    """The prompt of every picture; text alone has none."""
    text_key: str = "text"
    """Field of the text."""
    patches: int = Field(ge=1)
    """Image tokens of a picture: the patches of the model's tower."""

    @model_validator(mode="after")
    def _prompt_has_a_place(self) -> "Captions":
        if self.prompt.count(PLACEHOLDER) != 1:
            raise ValueError(
                f"prompt has {PLACEHOLDER} {self.prompt.count(PLACEHOLDER)} times: write it once, "
                "where the picture stands."
            )
        if self.prompt_key is not None and self.prompt != PLACEHOLDER:
            raise ValueError("prompt has no effect beside prompt_key: unset one of them.")
        return self

    def columns(self, seq_len: int) -> Columns:
        height, width, channels = self.shape
        return Columns(seq_len, seq_len, source=height * width * channels)

    def controls(self) -> tuple[str, ...]:
        return ("end", "image")

    def cache_key(self) -> dict[str, object]:
        keys = [self.image_key, self.prompt_key, self.prompt, self.text_key, *self.shape]
        return super().cache_key() | {"captions": keys}

    def accept(self, piece: Piece) -> Piece:
        keys = [self.text_key, *([self.prompt_key] if self.prompt_key else [])]
        piece = with_words(piece, self.kind, keys, keys)
        record = dict(piece.record or {})
        record[self.image_key] = image = self.optional_picture(piece)
        has_picture = image is not None
        count = self._asked(record).count(PLACEHOLDER)
        if count != has_picture:
            has = "a picture" if has_picture else "no picture"
            raise RowError(
                f"{piece.where or 'A record'}: the prompt has {PLACEHOLDER} {count} times, and the "
                f"record has {has}. Write it once for a picture, and not at all without one."
            )
        prompt = self._asked(record).replace(PLACEHOLDER, " ")
        return replace(piece, record=record, text=f"{prompt}\n{string(record, self.text_key)}")

    def _asked(self, record: Record) -> str:
        """The prompt of a record."""
        if self.prompt_key is not None:
            return string(record, self.prompt_key)
        return "" if record[self.image_key] is None else self.prompt

    def encode(
        self, record: Record, tokenizer: Tokenizer, labels: Mapping[str, int]
    ) -> list[list[int]]:
        image = record[self.image_key]
        pixels = [] if image is None else image.reshape(-1).tolist()
        return [
            pixels,
            placed(tokenizer, self._asked(record), tokenizer.control("image")),
            [*tokenizer.encode(string(record, self.text_key)), tokenizer.control("end")],
        ]

    def rows(
        self, prepared: Prepared, split: Split, setting: BatchSetting, train: bool
    ) -> RecordRows:
        seq_len, image_token = setting.seq_len, prepared.tokenizer.control("image")
        records = Records(prepared, split, 3)
        self._check_lengths(records, seq_len)
        nothing = np.zeros(self.shape, np.int32)

        def make(fields: tuple[np.ndarray, ...], rng: np.random.Generator) -> Row:
            pixels, prompt, text = fields
            image = self.augmented(pixels if len(pixels) else nothing, rng, train)
            before = expanded(prompt, image_token, self.patches)
            tokens = np.concatenate([before, text])[: seq_len + 1]
            predicted = np.arange(1, len(tokens)) >= max(len(before), 1)
            return {"pixels": image, "tokens": tokens, "weights": predicted.astype(np.float32)}

        widths = {"tokens": [seq_len + 1], "weights": [seq_len]}
        examples = RecordExamples(records, setting, train=train)
        return RecordRows(examples, make, widths, setting.seed)

    def _check_lengths(self, records: Records, seq_len: int) -> None:
        """Warn of rows that lose the end of their text.

        Raises:
            DataError: all lose the whole text.
        """
        pixels, prompt, text = records.lengths().T
        before = prompt + np.where(pixels > 0, self.patches - 1, 0)
        if (before > seq_len).all():
            raise DataError(
                f"train.seq_len = {seq_len} has no room for text behind prompts of "
                f"{int(before.min())} tokens or more, {self.patches} of which stand for the "
                "picture: set it (and the language model's max_seq_len) to "
                f"{int((before + text).max()) - 1}."
            )
        records.warn_of_cut(before + text - (seq_len + 1))
