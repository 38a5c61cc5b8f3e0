"""Pictures as rows of their numbers, and the class of each."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from ...core.errors import DataError
from ..example_rows import RecordExamples, RecordRows, Row
from ..kinds import BatchSetting, Columns
from ..pictures.augment import shifted, warped
from ..pictures.field import Size, numbers, picture
from ..pieces import Piece, Record
from ..prepared import Prepared
from ..records import Records
from ..shards import Split
from ..tokenizers.tokenizer import Tokenizer
from .fields import label, string, with_words
from .record_kind import RecordKind


class Pictures(RecordKind):
    """Pictures, whose pixels are numbers from 0 to 255, row by row, and the class of each.

    `pixels` [B, T] with T = `train.seq_len` numbers a picture, `label` [B], and `weights` [B], 1
    for a real row, 0 for padding. Class i is the i-th of all labels, sorted.
    """

    kind: Literal["pictures"] = "pictures"
    gives: ClassVar[tuple[str, ...]] = ("pixels", "label", "weights")

    pixels_key: str = "text"
    """Field of the picture: its numbers, text with a space between two; with `size` also the path
    of a file, or lists of numbers."""
    label_key: str = "label"
    """Field of the label: text, a whole number, or true or false."""
    size: tuple[int, int] | None = None
    """Height and width to which the pictures of files are resized, whatever their ratio; none means
    that pictures are numbers."""
    width: int | None = Field(None, ge=1)
    """Numbers of one row of a picture, width times channels, for `shift`, `rotate` and `zoom`; not
    needed with `size`."""
    channels: int = Field(1, ge=1)
    """Numbers of a pixel, for `size`, `shift`, `rotate` and `zoom`: 1 for grey, 3 for RGB."""
    shift: int = Field(0, ge=0)
    """Pixels by which pictures are shifted at most in training, in either direction; the border is
    repeated. It needs `width`."""
    rotate: float = Field(0.0, ge=0, le=180)
    """Degrees by which pictures are rotated at most in training, in either direction. It needs
    `width`."""
    zoom: float = Field(0.0, ge=0, lt=1)
    """Share by which pictures are made larger or smaller at most in training. It needs `width`."""

    @model_validator(mode="after")
    def _changes_have_a_width(self) -> "Pictures":
        changes = {"shift": self.shift, "rotate": self.rotate, "zoom": self.zoom}
        needs = next((name for name, most in changes.items() if most), None)
        if self.size is not None:
            if self.width not in (None, self.row_width):
                raise ValueError(f"width = {self.width} contradicts size: leave it out.")
            if self.channels not in (1, 3):
                raise ValueError(f"channels = {self.channels}: a file's pictures have 1 or 3.")
        elif needs and (self.width is None or self.width % self.channels):
            raise ValueError(
                f"{needs} needs width, the numbers of a row of a picture: its pixels times "
                "channels."
            )
        return self

    @property
    def row_width(self) -> int | None:
        """Numbers of a row of a picture, if they are known."""
        return self.width if self.size is None else self.size[1] * self.channels

    def columns(self, seq_len: int) -> Columns:
        return Columns(seq_len, 0)

    def cache_key(self) -> dict[str, object]:
        read_as = [] if self.size is None else [*self.size, self.channels]
        key = {"pictures": [self.pixels_key, self.label_key, *read_as]}
        return super().cache_key() | key

    def accept(self, piece: Piece) -> Piece:
        keys = (self.pixels_key, self.label_key)
        piece = with_words(piece, self.kind, keys, keys[:1] if self.size is None else ())
        record = piece.record or {}
        label(record[self.label_key], self.label_key, piece.where)
        if self.size is None:
            numbers(string(record, self.pixels_key), piece.where)
            return piece
        shape: Size = (*self.size, 3 if self.channels == 3 else 1)
        pixels = picture(record[self.pixels_key], shape, self.pixels_key, piece)
        text = hashlib.sha256(pixels.tobytes()).hexdigest()  # equal pictures share a split
        return replace(piece, record={**record, self.pixels_key: pixels}, text=text)

    def labels(self, record: Record) -> Iterable[str | int]:
        return (label(record[self.label_key], self.label_key),)

    def encode(
        self, record: Record, tokenizer: Tokenizer, labels: Mapping[str, int]
    ) -> list[list[int]]:
        value = record[self.pixels_key]
        pixels = numbers(value, "a record") if isinstance(value, str) else value.ravel().tolist()
        return [pixels, [labels[str(label(record[self.label_key], self.label_key))]]]

    def rows(
        self, prepared: Prepared, split: Split, setting: BatchSetting, train: bool
    ) -> RecordRows:
        records, seq_len = Records(prepared, split, 2), setting.seq_len
        width = self.row_width
        if width is not None and seq_len % width:
            raise DataError(
                f"data.batch.width = {width} is no row of a picture, since it doesn't divide "
                f"train.seq_len = {seq_len}: set it to the picture's width times channels."
            )

        def make(fields: tuple[np.ndarray, ...], rng: np.random.Generator) -> Row:
            pixels, answer = fields
            if len(pixels) != seq_len:
                raise DataError(
                    f"A picture has {len(pixels)} numbers, and train.seq_len is {seq_len}: set it "
                    "to height times width times channels."
                )
            if train and width is not None:
                drawn = pixels.reshape(-1, width // self.channels, self.channels)
                drawn = warped(drawn, self.rotate, self.zoom, rng)
                pixels = shifted(drawn, self.shift, rng).reshape(-1)
            return {"pixels": pixels, "label": int(answer[0]), "weights": np.float32(1)}

        examples = RecordExamples(records, setting, train=train)
        return RecordRows(examples, make, {"pixels": [seq_len]}, setting.seed)
