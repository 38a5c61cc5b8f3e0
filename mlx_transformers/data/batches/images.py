"""Pictures alone, for autoencoders."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np

from ..example_rows import RecordExamples, RecordRows, Row
from ..kinds import BatchSetting, Columns
from ..pieces import Piece, Record
from ..prepared import Prepared
from ..records import Records
from ..shards import Split
from ..tokenizers.tokenizer import Tokenizer
from .fields import with_words
from .picture_kind import PictureKind


class Images(PictureKind):
    """Pictures: `pixels` [B, height, width, channels], 0 to 255, and `weights` [B], 1 for a real
    picture, 0 for padding.

    A picture is the path of a file, which is resized, or text of its numbers. `train.seq_len` is
    its number of numbers.
    """

    kind: Literal["images"] = "images"
    gives: ClassVar[tuple[str, ...]] = ("pixels", "weights")

    def columns(self, seq_len: int) -> Columns:
        return Columns(seq_len, 0)

    def cache_key(self) -> dict[str, object]:
        return super().cache_key() | {"images": [self.image_key, *self.shape]}

    def accept(self, piece: Piece) -> Piece:
        piece = with_words(piece, self.kind, (self.image_key,), ())
        pixels = self.picture(piece)
        # Pictures are held out by their text; equal ones land on the same side.
        text = hashlib.sha256(pixels.tobytes()).hexdigest()
        return replace(piece, record={**(piece.record or {}), self.image_key: pixels}, text=text)

    def encode(
        self, record: Record, tokenizer: Tokenizer, labels: Mapping[str, int]
    ) -> list[list[int]]:
        pixels: np.ndarray = record[self.image_key]
        return [pixels.reshape(-1).tolist()]

    def rows(
        self, prepared: Prepared, split: Split, setting: BatchSetting, train: bool
    ) -> RecordRows:
        def make(fields: tuple[np.ndarray, ...], rng: np.random.Generator) -> Row:
            return {"pixels": self.augmented(fields[0], rng, train), "weights": np.float32(1)}

        examples = RecordExamples(Records(prepared, split, 1), setting, train=train)
        return RecordRows(examples, make, {}, setting.seed)
