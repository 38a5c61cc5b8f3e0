"""Rows of text and picture tokens in either order, for models that read and write both."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from ...core.errors import DataError
from ..example_rows import RecordExamples, RecordRows, Row
from ..kinds import BatchSetting, Columns
from ..pictures.prompt import PLACEHOLDER
from ..pieces import Piece, Record, RowError
from ..prepared import Prepared
from ..records import Records
from ..shards import Split
from ..tokenizers.tokenizer import Tokenizer
from .fields import string, with_words
from .picture_kind import PictureKind


class MixedModal(PictureKind):
    """A text and the tokens of a picture in one vocabulary (Chameleon Team 2024, section 2).

    `tokens` [B, T + 1] are `start`, the text, `image`, a token for each patch, and `end`; or the
    picture before the text. A text with `<image>` has it there. The objective puts the picture's
    tokens where `places` [B, T + 1] has a number from 1 on, that of the patch. `pixels` [B,
    height, width, channels] are zeros for a record whose picture is missing, empty or null, which
    is text alone, and `weights` [B, T] are 1 where a token is predicted.
    """

    kind: Literal["mixed_modal"] = "mixed_modal"
    gives: ClassVar[tuple[str, ...]] = ("pixels", "tokens", "places", "weights")

    text_key: str = "text"
    """Field of the text."""
    patches: int = Field(ge=1)
    """Tokens of a picture: the patches of the VQ-VAE."""
    n_codes: int = Field(ge=2, le=1 << 13)
    """Picture tokens of the vocabulary: the codes of the VQ-VAE."""
    picture_first: float = Field(0.5, ge=0, le=1)
    """Share of the rows whose picture stands before the text, where the text doesn't say."""

    @property
    def extra(self) -> int:
        """Tokens of a row beside its text: the picture, `start`, `image` and `end`."""
        return self.patches + 3

    def columns(self, seq_len: int) -> Columns:
        return Columns(seq_len, seq_len)

    def controls(self) -> tuple[str, ...]:
        return ("start", "end", "image", *(f"code_{n}" for n in range(self.n_codes)))

    def cache_key(self) -> dict[str, object]:
        keys = [self.image_key, self.text_key, *self.shape, self.n_codes]
        return {"mixed_modal": keys}

    def accept(self, piece: Piece) -> Piece:
        piece = with_words(piece, self.kind, (self.text_key,), (self.text_key,))
        record = dict(piece.record or {})
        record[self.image_key] = image = self.optional_picture(piece)
        has_picture = image is not None
        text = string(record, self.text_key)
        count = text.count(PLACEHOLDER)
        if count > has_picture:
            has = "one picture" if has_picture else "no picture"
            raise RowError(
                f"{piece.where or 'A record'}: the text has {PLACEHOLDER} {count} times, and the "
                f"record has {has}. Write it once where the picture stands, or leave it out."
            )
        return replace(piece, record=record, text=text.replace(PLACEHOLDER, " "))

    def encode(
        self, record: Record, tokenizer: Tokenizer, labels: Mapping[str, int]
    ) -> list[list[int]]:
        image, text = record[self.image_key], string(record, self.text_key)
        before, placed, after = text.partition(PLACEHOLDER)
        pixels = [] if image is None else image.reshape(-1).tolist()
        parts = [tokenizer.encode(part) if part.strip() else [] for part in (before, after)]
        return [pixels, *parts, [int(bool(placed))]]

    def rows(
        self, prepared: Prepared, split: Split, setting: BatchSetting, train: bool
    ) -> RecordRows:
        seq_len, tokenizer = setting.seq_len, prepared.tokenizer
        room = seq_len + 1 - self.extra
        if room < 1:
            raise DataError(
                f"train.seq_len = {seq_len} has no room for text beside the {self.patches} tokens "
                f"of a picture: set it (and model.max_seq_len) to {self.extra} or more."
            )
        records = Records(prepared, split, 4)
        lengths = records.lengths()
        most_text = np.where(lengths[:, 0] > 0, room, seq_len - 1)
        records.warn_of_cut(lengths[:, 1] + lengths[:, 2] - most_text)
        nothing = np.zeros(self.shape, np.int32)

        def make(fields: tuple[np.ndarray, ...], rng: np.random.Generator) -> Row:
            pixels, before, after, (placed,) = fields
            image = None
            if len(pixels):
                image = self.augmented(pixels, rng, train)
                if not placed and rng.random() < self.picture_first:
                    before, after = after, before
            most = seq_len - 1 if image is None else room
            before = before[:most]
            after = after[: most - len(before)]
            parts = (before, after) if image is not None else (np.append(before, after),)
            tokens, places = self.laid_out(tokenizer, parts)
            tokens, places = np.append(tokens, tokenizer.control("end")), np.append(places, 0)
            weights = np.ones(len(tokens) - 1, np.float32)
            row = {"tokens": tokens, "places": places, "weights": weights}
            return {"pixels": nothing if image is None else image, **row}

        widths = {"tokens": [seq_len + 1], "places": [seq_len + 1], "weights": [seq_len]}
        examples = RecordExamples(records, setting, train=train)
        return RecordRows(examples, make, widths, setting.seed)

    def laid_out(
        self, tokenizer: Tokenizer, texts: Sequence[Sequence[int] | np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Tokens of texts with a picture between each two, and the places of its patches; both
        without `end`. A patch is the first code until its own is known."""
        start, image, code = map(tokenizer.control, ("start", "image", "code_0"))
        tokens, places = [start], [0]
        for i, text in enumerate(texts):
            if i:
                tokens += [image, *[code] * self.patches]
                places += [0, *range(1, self.patches + 1)]
            tokens += [int(token) for token in text]
            places += [0] * len(text)
        return np.array(tokens, np.int32), np.array(places, np.int32)
