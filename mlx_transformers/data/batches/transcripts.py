"""Sounds and their transcripts, for speech recognition."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from ...core.errors import DataError
from ..example_rows import RecordExamples, RecordRows, Row
from ..kinds import BatchSetting, Columns
from ..pieces import Piece, Record, RowError
from ..prepared import Prepared
from ..records import Records
from ..shards import Split
from ..sound.log_mel import HOP, RATE, log_mel
from ..sound.read import read_sound
from ..tokenizers.tokenizer import Tokenizer
from .fields import string, with_words
from .record_kind import RecordKind

STEPS = 8192
"""Steps of a stored feature between two whole numbers."""
LOWEST = -3.0
"""Smallest feature that is stored."""
URI = "data:audio/wav;base64,"


class Transcripts(RecordKind):
    """Sounds of up to `seconds`, padded with silence, and the text that is said in each (Whisper:
    Radford et al. 2022, section 2).

    `frames` [B, F, n_mels], log-mel features, 100 a second; `tokens` [B, T + 1], a start token, the
    text and an end token; `weights` [B, T]. A sound is the path of a WAV file, relative to the file
    of the record, or a `data:audio/wav;base64,` address.
    """

    kind: Literal["transcripts"] = "transcripts"
    gives: ClassVar[tuple[str, ...]] = ("frames", "tokens", "weights")

    audio_key: str = "audio"
    """Field of the sound."""
    text_key: str = "text"
    """Field of the text."""
    n_mels: int = Field(80, ge=1, le=128)
    """Features of a frame: those of the model's embedding."""
    seconds: float = Field(30.0, gt=0, le=30)
    """Length of all sounds."""

    @property
    def samples(self) -> int:
        """Samples of a padded sound, a whole number of frames."""
        return round(self.seconds * RATE / HOP) * HOP

    @property
    def n_frames(self) -> int:
        """Frames F of a sound."""
        return self.samples // HOP

    def columns(self, seq_len: int) -> Columns:
        return Columns(seq_len, seq_len, source=self.n_frames * self.n_mels)

    def controls(self) -> tuple[str, ...]:
        return ("start", "end")

    def cache_key(self) -> dict[str, object]:
        key = [self.audio_key, self.text_key, self.n_mels, self.seconds]
        return super().cache_key() | {"transcripts": key}

    def accept(self, piece: Piece) -> Piece:
        piece = with_words(piece, self.kind, (self.audio_key, self.text_key), (self.text_key,))
        record = piece.record or {}
        samples = self._sound(string(record, self.audio_key, piece.where), piece)
        if len(samples) > self.samples:
            raise RowError(
                f"{piece.where}: the sound lasts {len(samples) / RATE:.1f} seconds, and "
                f"data.batch.seconds = {self.seconds:g}: cut it, or raise the limit (at most 30)."
            )
        return replace(piece, record={**record, self.audio_key: samples})

    def _sound(self, value: str, piece: Piece) -> np.ndarray:
        where = piece.where or "A record"
        try:
            if value.startswith(URI):
                data = base64.b64decode(value.removeprefix(URI), validate=True)
                return read_sound(data, f"{where}: the sound")
            path = piece.path(value)
            return read_sound(path, f"{where}: {path}")
        except binascii.Error as error:
            raise RowError(f"{where}: the sound is no base64 text: {error}.") from None
        except DataError as error:
            raise RowError(str(error)) from None

    def encode(
        self, record: Record, tokenizer: Tokenizer, labels: Mapping[str, int]
    ) -> list[list[int]]:
        features = self.features(record[self.audio_key])
        stored = np.clip((features - LOWEST) * STEPS, 0, 2**16 - 1).round().astype(int)
        return [stored.ravel().tolist(), tokenizer.encode(string(record, self.text_key))]

    def features(self, samples: np.ndarray) -> np.ndarray:
        """Return the features `[F, n_mels]` of samples `[n]`, as the model reads them."""
        return log_mel(samples, self.n_mels, length=self.samples)

    def rows(
        self, prepared: Prepared, split: Split, setting: BatchSetting, train: bool
    ) -> RecordRows:
        tokenizer, seq_len = prepared.tokenizer, setting.seq_len
        records = Records(prepared, split, 2)
        records.warn_of_cut(records.lengths()[:, 1] - (seq_len - 1))
        start, end = tokenizer.control("start"), tokenizer.control("end")

        def make(fields: tuple[np.ndarray, ...], rng: np.random.Generator) -> Row:
            frames = (fields[0] / STEPS + LOWEST).reshape(self.n_frames, self.n_mels)
            text = fields[1][: seq_len - 1]
            return {
                "frames": frames.astype(np.float32),
                "tokens": np.concatenate([[start], text, [end]]),
                "weights": np.ones(len(text) + 1, np.float32),
            }

        widths = {"tokens": [seq_len + 1], "weights": [seq_len]}
        examples = RecordExamples(records, setting, train=train)
        return RecordRows(examples, make, widths, setting.seed)
