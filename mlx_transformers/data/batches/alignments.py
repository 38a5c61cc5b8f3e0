"""Alignments of protein families, their masked letters, and the distances of their residues."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from ...core.errors import DataError
from ..example_rows import RecordExamples, RecordRows, Row
from ..kinds import BatchSetting, Columns
from ..pieces import Piece, Record, RowError
from ..prepared import Prepared
from ..records import Records
from ..shards import Split
from ..tokenizers.tokenizer import Tokenizer
from .fields import string, with_words
from .masked import Masker, Masking
from .record_kind import RecordKind


class Alignments(RecordKind):
    """An alignment of S sequences of N residues as one row of `train.seq_len` = S · N tokens, and
    the class of each pair of residues: the bin of its distance.

    `tokens` (some masked), `letters`, `masked` (1 where a letter is predicted) and `valid`, all
    [B, T]; `pairs`, the class of each pair, and `pair_weights`, both [B, N * N]; `weights` [B].

    In training, longer alignments are cropped at a random place and sequences drawn from all, the
    first always among them (Jumper et al. 2021, supplement, sections 1.2.6 to 1.2.8); in evaluation
    the first of each are taken.
    """

    kind: Literal["alignments"] = "alignments"
    gives: ClassVar[tuple[str, ...]] = (
        *("tokens", "letters", "masked", "valid"),
        *("pairs", "pair_weights", "weights"),
    )

    alignment_key: str = "text"
    """Field of the alignment: one sequence a line, all of one length, the target first."""
    distances_key: str = "distances"
    """Field of the distances: a list of N lists of N numbers."""
    length: int = Field(ge=2)
    """Residues N of a row."""
    bins: list[float] = Field(default=[8.0], min_length=1)
    """Upper ends of the distances' bins, ascending; the last class is beyond all of them. The first
    bin holds the contacts."""
    separation: int = Field(6, ge=1)
    """Residues along the chain from which on pairs are counted."""
    masking: Masking = Masking()
    """Rule that chooses the masked letters."""

    @model_validator(mode="after")
    def _bins_ascend(self) -> "Alignments":
        if sorted(set(self.bins)) != self.bins:
            raise ValueError(f"bins = {self.bins} must ascend.")
        if self.separation >= self.length:
            raise ValueError(
                f"separation = {self.separation} leaves no pair of length = {self.length} residues."
            )
        return self

    @property
    def row_unit(self) -> int:
        return self.length  # rows are whole sequences

    def columns(self, seq_len: int) -> Columns:
        return Columns(seq_len, seq_len, masked=True)

    def controls(self) -> tuple[str, ...]:
        return ("mask", "pad")

    def cache_key(self) -> dict[str, object]:
        keys: list[object] = [self.alignment_key, self.distances_key, self.bins]
        return super().cache_key() | {"alignments": keys}

    def accept(self, piece: Piece) -> Piece:
        keys = (self.alignment_key, self.distances_key)
        piece = with_words(piece, self.kind, keys, (self.alignment_key,))
        lines = self._lines(piece.record or {}, piece.where)
        self._classes(piece.record or {}, len(lines[0]), piece.where)
        return replace(piece, text="".join(lines))

    def labels(self, record: Record) -> Iterable[str | int]:
        return range(len(self.bins) + 1)

    def encode(
        self, record: Record, tokenizer: Tokenizer, labels: Mapping[str, int]
    ) -> list[list[int]]:
        lines = self._lines(record, "a record")
        rows = [tokenizer.encode(line) for line in lines]
        n = len(lines[0])
        if any(len(row) != n for row in rows):
            raise DataError(
                "An alignment needs one token a letter: set data.tokenizer.kind = 'char'."
            )
        letters = [token for row in rows for token in row]
        return [letters, self._classes(record, n, "a record").ravel().tolist(), [n]]

    def _lines(self, record: Record, where: str) -> list[str]:
        lines = string(record, self.alignment_key, where).split()
        lengths = {len(line) for line in lines}
        if len(lengths) != 1:
            raise RowError(
                f"{where}: an alignment is text of sequences of one length, one a line, with gaps "
                f"as '-'; these have {len(lengths)} lengths: {sorted(lengths)[:5]}."
            )
        return lines

    def _classes(self, record: Record, n: int, where: str) -> np.ndarray:
        """The class of each pair, `[N, N]`."""
        try:
            distances = np.array(record[self.distances_key], dtype=np.float64)
        except (ValueError, TypeError):
            distances = np.zeros(0)
        if distances.shape != (n, n) or not np.isfinite(distances).all():
            raise RowError(
                f"{where}: the field '{self.distances_key}' is no list of {n} lists of {n} numbers,"
                f" the distances of the {n} residues of its alignment."
            )
        return np.searchsorted(self.bins, distances, side="left")

    def rows(
        self, prepared: Prepared, split: Split, setting: BatchSetting, train: bool
    ) -> RecordRows:
        n, depth = self.length, setting.seq_len // self.length
        if n * depth != setting.seq_len:
            raise DataError(
                f"train.seq_len = {setting.seq_len} is no whole number of sequences of "
                f"data.batch.length = {n} residues: set it to a multiple, such as "
                f"{n * max(1, depth)}."
            )
        tokenizer = prepared.tokenizer
        masker, pad = Masker(self.masking, tokenizer), tokenizer.control("pad")
        distance = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))

        def make(fields: tuple[np.ndarray, ...], rng: np.random.Generator) -> Row:
            size = int(fields[2][0])
            letters, classes = fields[0].reshape(-1, size), fields[1].reshape(size, size)
            first = int(rng.integers(0, size - n + 1)) if train and size > n else 0
            drawn = np.arange(1, len(letters))
            if train:
                drawn = np.sort(rng.permutation(drawn)[: depth - 1])
            sequences = np.append(0, drawn[: depth - 1])
            part = letters[sequences, first : first + n]
            masked_letters, masked = masker(part.ravel(), rng)
            real = part.shape[1]
            pairs = np.zeros((n, n), np.int32)
            pairs[:real, :real] = classes[first : first + n, first : first + n]
            pair_weights = (distance >= self.separation) & (np.arange(n) < real)
            pair_weights &= (np.arange(n) < real)[:, None]

            def laid(values: np.ndarray, filler: int) -> np.ndarray:
                out = np.full((depth, n), filler, values.dtype)
                out[: len(part), :real] = values.reshape(part.shape)
                return out.ravel()

            return {
                "tokens": laid(masked_letters, pad),
                "letters": laid(part, pad),
                "masked": laid(masked, 0),
                "valid": laid(np.ones(part.shape, bool), 0),
                "pairs": pairs.ravel(),
                "pair_weights": pair_weights.ravel().astype(np.float32),
                "weights": np.float32(1),
            }

        examples = RecordExamples(Records(prepared, split, 3), setting, train=train)
        widths = {name: [setting.seq_len] for name in ("tokens", "letters", "masked", "valid")}
        return RecordRows(examples, make, widths, setting.seed)
