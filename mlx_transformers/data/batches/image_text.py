"""Pictures and the texts that belong to them, for contrastive training."""

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field

from ..example_rows import RecordExamples, RecordRows, Row
from ..kinds import BatchSetting, Columns
from ..pictures.augment import shifted
from ..pictures.field import Size, picture
from ..pictures.read import Channels
from ..pieces import Piece, Record
from ..prepared import Prepared
from ..records import Records
from ..shards import Split
from ..tokenizers.tokenizer import Tokenizer
from .fields import string, with_words
from .record_kind import RecordKind

FRAMES = {"cls_sep": ("cls", "sep"), "start_end": ("start", "end"), "end_filled": ("end",)}
"""The control tokens around a text, the last of them behind it."""


class ImageText(RecordKind):
    """Pictures with their texts; the other rows of a batch are the negatives (CLIP: Radford et al.
    2021, section 2.3).

    `pixels` [B, height, width, channels], 0 to 255, `tokens` and `valid` [B, T], the text in its
    `frame`, and `weights` [B], 1 for a real pair, 0 for padding. A picture is the path of a file,
    which is resized, or text of its numbers.
    """

    kind: Literal["image_text"] = "image_text"
    gives: ClassVar[tuple[str, ...]] = ("pixels", "tokens", "valid", "weights")

    image_key: str = "image"
    """Field of the picture."""
    text_key: str = "text"
    """Field of the text."""
    size: tuple[int, int]
    """Height and width of the pictures, in pixels: those of the model's tower."""
    channels: Channels = 3
    """Numbers of a pixel: 3 for RGB, 1 for grey."""
    shift: int = Field(0, ge=0)
    """Pixels by which pictures are shifted at most in training, in either direction."""
    frame: Literal["cls_sep", "start_end", "end_filled"] = "cls_sep"
    """The tokens around a text: CLS and SEP (BERT), the start and the end of a text (CLIP), or its
    end, repeated up to T, all of which is read (SigLIP)."""

    @property
    def shape(self) -> Size:
        """Height, width and channels."""
        return (*self.size, self.channels)

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
        record = piece.record or {}
        pixels = picture(record[self.image_key], self.shape, self.image_key, piece)
        return replace(piece, record={**record, self.image_key: pixels})

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

        def make(fields: tuple[np.ndarray, ...], rng: np.random.Generator) -> Row:
            pixels, text = fields
            image = shifted(pixels.reshape(self.shape), self.shift if train else 0, rng)
            arrays = self.framed(tokenizer, text, seq_len)
            return {"pixels": image, **arrays, "weights": np.float32(1)}

        widths = {"tokens": [seq_len], "valid": [seq_len]}
        examples = RecordExamples(Records(prepared, split, 2), setting, train=train)
        return RecordRows(examples, make, widths, setting.seed)
