"""Pictures and the texts that belong to them, for contrastive training."""

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike

from ..example_rows import RecordExamples, RecordRows, Row
from ..kinds import BatchSetting, Columns
from ..pieces import Piece, Record
from ..prepared import Prepared
from ..records import Records
from ..shards import Split
from ..tokenizers.tokenizer import Tokenizer
from .fields import string, with_words
from .picture_kind import PictureKind

FRAMES = {"cls_sep": ("cls", "sep"), "start_end": ("start", "end"), "end_filled": ("end",)}
"""The control tokens around a text, the last of them behind it."""


class ImageText(PictureKind):
    """Pictures with their texts; the other rows of a batch are the negatives (CLIP: Radford et al.
    2021, section 2.3).

    `pixels` [B, height, width, channels], 0 to 255, `tokens` and `valid` [B, T], the text in its
    `frame`, and `weights` [B], 1 for a real pair, 0 for padding. A picture is the path of a file,
    which is resized, or text of its numbers.
    """

    kind: Literal["image_text"] = "image_text"
    gives: ClassVar[tuple[str, ...]] = ("pixels", "tokens", "valid", "weights")

    text_key: str = "text"
    """Field of the text."""
    frame: Literal["cls_sep", "start_end", "end_filled"] = "cls_sep"
    """The tokens around a text: CLS and SEP (BERT), the start and the end of a text (CLIP), or its
    end, repeated up to T, all of which is read (SigLIP)."""

    def columns(self, seq_len: int) -> Columns:
        height, width, channels = self.shape
        return Columns(seq_len, 0, source=height * width * channels, masked=True)

    def controls(self) -> tuple[str, ...]:
        return FRAMES[self.frame]

    def cache_key(self) -> dict[str, object]:
        key = {"image_text": [self.image_key, self.text_key, *self.shape]}
        return super().cache_key() | key

    def accept(self, piece: Piece) -> Piece:
        piece = with_words(piece, self.kind, (self.image_key, self.text_key), (self.text_key,))
        record = {**(piece.record or {}), self.image_key: self.picture(piece)}
        return replace(piece, record=record)

    def framed(self, tokenizer: Tokenizer, text: ArrayLike, seq_len: int) -> dict[str, np.ndarray]:
        """Return `tokens` and `valid` of a text in its frame, cut to `seq_len`."""
        *first, last = (tokenizer.control(role) for role in self.controls())
        cut = np.asarray(text, np.int64)[: seq_len - 1 - len(first)]
        tokens = np.array([*first, *cut, last])
        if self.frame == "end_filled":
            tokens = np.pad(tokens, (0, seq_len - len(tokens)), constant_values=last)
        return {"tokens": tokens, "valid": np.ones(len(tokens), bool)}

    def encode(
        self, record: Record, tokenizer: Tokenizer, labels: Mapping[str, int]
    ) -> list[list[int]]:
        pixels: np.ndarray = record[self.image_key]
        return [pixels.reshape(-1).tolist(), tokenizer.encode(string(record, self.text_key))]

    def rows(
        self, prepared: Prepared, split: Split, setting: BatchSetting, train: bool
    ) -> RecordRows:
        tokenizer, seq_len = prepared.tokenizer, setting.seq_len
        records = Records(prepared, split, 2)
        records.warn_of_cut(records.lengths()[:, 1] - (seq_len - len(self.controls())))

        def make(fields: tuple[np.ndarray, ...], rng: np.random.Generator) -> Row:
            pixels, text = fields
            image = self.augmented(pixels, rng, train)
            arrays = self.framed(tokenizer, text, seq_len)
            return {"pixels": image, **arrays, "weights": np.float32(1)}

        widths = {"tokens": [seq_len], "valid": [seq_len]}
        examples = RecordExamples(records, setting, train=train)
        return RecordRows(examples, make, widths, setting.seed)
