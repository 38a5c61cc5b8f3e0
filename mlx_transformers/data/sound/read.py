"""Sound files as samples at 16 kHz: WAV of any rate, channels and width, and refusals."""

import struct
from pathlib import Path

import numpy as np

from ...core.errors import DataError
from ..contents import contents
from .log_mel import RATE
from .resample import resampled

LONGEST = 3600
"""Seconds of the longest sound that is read: 230 MB of samples."""
RATES = (1_000, 768_000)
"""Smallest and largest rate that is believed, in Hz."""
PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
"""Codes of a WAV file's encoding."""


def read_sound(source: Path | bytes, where: str = "") -> np.ndarray:
    """Return the samples of a WAV file: float32 `[n]` in -1 to 1 at 16 kHz, channels averaged.

    Whole numbers of 8, 16, 24 or 32 bits and floats of 32 or 64 bits are read.

    Args:
        source: the file, or its bytes.
        where: name of the sound in messages; the file's by default.

    Raises:
        DataError: the file is missing, no WAV file, damaged, empty, or longer than an hour.
    """
    name = where or (str(source) if isinstance(source, Path) else "The sound")
    data = contents(source, name)
    if data[:4] not in (b"RIFF", b"RF64") or data[8:12] != b"WAVE":
        raise DataError(
            f"{name} is no WAV file. Convert it: ffmpeg -i FILE -ar {RATE} -ac 1 sound.wav"
        )
    chunks = _chunks(data)
    form = chunks.get(b"fmt ", b"")
    if len(form) < 16 or b"data" not in chunks:
        raise DataError(f"{name} is damaged: it ends before its sound begins. Write it again.")
    code, channels, rate, _, frame, bits = struct.unpack("<HHIIHH", form[:16])
    if code == EXTENSIBLE and len(form) >= 26:
        code = struct.unpack("<H", form[24:26])[0]
    if not channels or frame != channels * bits // 8 or not RATES[0] <= rate <= RATES[1]:
        raise DataError(
            f"{name} is damaged: its header tells of {channels} channels of {bits} bits in "
            f"{frame} bytes at {rate:,} Hz. Write it again."
        )
    sound = chunks[b"data"]
    n = len(sound) // frame
    if not n:
        raise DataError(f"{name} holds no sound: 0 samples. Record it again.")
    if n > LONGEST * rate:
        raise DataError(
            f"{name} is {n / rate / 60:.0f} minutes long, and at most {LONGEST // 60} are read: "
            "cut it, with ffmpeg -ss START -t SECONDS."
        )
    mono = _numbers(sound[: n * frame], code, bits, name).reshape(n, channels).mean(axis=1)
    if not np.isfinite(mono).all():
        raise DataError(
            f"{name} has samples that are no numbers (NaN or infinite): write it again."
        )
    return resampled(mono, rate, RATE).astype(np.float32)


def wav_bytes(samples: np.ndarray) -> bytes:
    """Return a WAV file of samples `[n]` at `RATE`, 16 bits and one channel."""
    sound = (np.clip(samples, -1, 1) * 32767).round().astype("<i2").tobytes()
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, PCM, 1, RATE, 2 * RATE, 2, 16)
    body: bytes = b"WAVE" + form + struct.pack("<4sI", b"data", len(sound)) + sound
    return struct.pack("<4sI", b"RIFF", len(body)) + body


def _chunks(data: bytes) -> dict[bytes, bytes]:
    """The first chunk of each name; one whose length goes beyond the file ends with it."""
    chunks: dict[bytes, bytes] = {}
    at = 12
    while at + 8 <= len(data):
        name, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        chunks.setdefault(name, data[at + 8 : at + 8 + size])
        at += 8 + size + size % 2
    return chunks


def _numbers(sound: bytes, code: int, bits: int, name: str) -> np.ndarray:
    """Samples in -1 to 1 as float32, channels beside each other."""
    if code == FLOAT and bits in (32, 64):
        return np.asarray(np.frombuffer(sound, f"<f{bits // 8}"), np.float32)
    if code == PCM and bits == 8:
        return (np.asarray(np.frombuffer(sound, np.uint8), np.float32) - 128) / 128
    if code == PCM and bits in (16, 32):
        integers = np.asarray(np.frombuffer(sound, f"<i{bits // 8}"), np.float32)
        return integers / np.float32(2 ** (bits - 1))
    if code == PCM and bits == 24:
        high = np.pad(np.frombuffer(sound, np.uint8).reshape(-1, 3), ((0, 0), (1, 0)))
        return np.asarray(high.copy().view("<i4")[:, 0], np.float32) / 2**31
    raise DataError(
        f"{name} is a WAV file with the encoding {code} and {bits} bits, which isn't read: PCM of "
        f"8 to 32 bits and floats are. Convert it: ffmpeg -i FILE -ar {RATE} -ac 1 sound.wav"
    )
