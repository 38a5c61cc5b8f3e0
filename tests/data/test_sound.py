"""Sound files: widths, rates, channels, and what is refused; speech of this machine."""

import base64
import struct
from pathlib import Path

import numpy as np
import pytest

from mlx_transformers.assembly import registry  # noqa: F401  (fills the slots)
from mlx_transformers.core.errors import DataError
from mlx_transformers.data.batches.transcripts import Transcripts
from mlx_transformers.data.corpora import spoken
from mlx_transformers.data.corpora.spoken import Spoken, SpokenSettings, in_words
from mlx_transformers.data.kinds import BatchSetting
from mlx_transformers.data.pieces import Piece
from mlx_transformers.data.prepare import prepare
from mlx_transformers.data.sound import speak
from mlx_transformers.data.sound.read import LONGEST, read_sound, wav_bytes
from mlx_transformers.data.sound.resample import resampled
from tests.data.spoken_table import Tones, table

TONE = 0.5 * np.sin(np.arange(1600) / 16000 * 2 * np.pi * 440)


def wav(data: bytes, code=1, channels=1, rate=16000, bits=16, extra=b""):
    frame = channels * bits // 8
    form = struct.pack("<HHIIHH", code, channels, rate, rate * frame, frame, bits) + extra
    chunks = [(b"fmt ", form), (b"LIST", b"odd"), (b"data", data)]
    body = b"".join(
        name + struct.pack("<I", len(part)) + part + b"\0" * (len(part) % 2)
        for name, part in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WAVE" + body


def as_24(samples):
    return np.round(samples * 2**23).astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3].tobytes()


SUBFORMAT = struct.pack("<HHIH", 22, 16, 4, 1) + b"\0" * 14


@pytest.mark.parametrize(
    ("data", "form"),
    [
        (np.round(TONE * 127 + 128).astype(np.uint8).tobytes(), {"bits": 8}),
        (np.round(TONE * 2**15).astype("<i2").tobytes(), {"bits": 16}),
        (as_24(TONE), {"bits": 24}),
        (np.round(TONE * 2**31).astype("<i4").tobytes(), {"bits": 32}),
        (TONE.astype("<f4").tobytes(), {"bits": 32, "code": 3}),
        (TONE.astype("<f8").tobytes(), {"bits": 64, "code": 3}),
        (np.round(TONE * 2**15).astype("<i2").tobytes(), {"code": 0xFFFE, "extra": SUBFORMAT}),
    ],
    ids=["8", "16", "24", "32", "float", "double", "extensible"],
)
def test_samples_of_every_width_are_the_same_sound(data, form):
    found = read_sound(wav(data, **form))
    assert found.dtype == np.float32
    assert np.abs(found - TONE).max() < (0.01 if form.get("bits") == 8 else 1e-4)


def test_channels_are_averaged_and_a_cut_frame_is_left_out():
    both = np.stack([TONE, -TONE / 2], axis=1)
    data = np.round(both * 2**15).astype("<i2").tobytes()
    assert np.abs(read_sound(wav(data + b"\1", channels=2)) - TONE / 4).max() < 1e-4


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_other_rates_are_resampled_without_aliases(rate):
    at = np.arange(rate // 5) / rate
    tone = np.sin(2 * np.pi * 440 * at)
    high = np.sin(2 * np.pi * 0.45 * rate * at) if rate > 22050 else 0
    found = resampled(tone + high, rate, 16000)
    expected = np.sin(2 * np.pi * 440 * np.arange(3200) / 16000)
    assert len(found) == 3200
    assert np.abs(found - expected)[200:-200].max() < 0.01


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "is an empty file"),
        (b"ID3 an mp3", "is no WAV file. Convert it: ffmpeg"),
        (wav(b""), "holds no sound"),
        (wav(b"12")[:20], "ends before its sound begins"),
        (wav(b"1234", channels=0), "is damaged: its header tells of 0 channels"),
        (wav(b"1234", rate=4), "4 Hz"),
        (wav(b"1234", code=2), "the encoding 2 and 16 bits"),
        (wav(b"\0" * (LONGEST + 60) * 1000, bits=8, rate=1000), "61 minutes long"),
        (wav(np.array([np.nan], "<f4").tobytes(), code=3, bits=32), "no numbers"),
    ],
)
def test_files_that_are_no_sound_are_refused(data, told):
    with pytest.raises(DataError, match=f"a.wav .*{told}"):
        read_sound(data, "a.wav")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.wav can't be read"):
        read_sound(tmp_path / "none.wav")
    with pytest.raises(DataError, match="is a pipe or device, not a file"):
        read_sound(Path("/dev/zero"))  # it would never end


def test_records_hold_paths_or_sounds_and_say_what_is_wrong(tmp_path):
    kind = Transcripts(seconds=0.1)
    (tmp_path / "a.wav").write_bytes(wav_bytes(TONE))
    inline = "data:audio/wav;base64," + base64.b64encode(wav_bytes(TONE)).decode()

    def accept(audio):
        record = {"audio": audio, "text": "a"}
        return kind.accept(Piece("", where="x.jsonl, line 3", record=record, folder=tmp_path))

    first, second = (accept(audio).record["audio"] for audio in ("a.wav", inline))
    assert (first == second).all()
    (tmp_path / "long.wav").write_bytes(wav_bytes(np.tile(TONE, 2)))
    for audio, told in [
        ("long.wav", r"lasts 0\.2 seconds, and data\.batch\.seconds = 0\.1"),
        ("b.wav", r"b\.wav can't be read"),
        (inline + "!", "no base64"),
    ]:
        with pytest.raises(DataError, match=f"line 3.*{told}"):
            accept(audio)


@pytest.mark.parametrize(
    ("n", "words"),
    [(0, "zero"), (19, "nineteen"), (42, "forty two"), (9019, "nine thousand nineteen")],
)
def test_numbers_in_words(n, words):
    assert in_words(n) == words


def test_a_machine_that_cannot_speak_says_what_to_install(monkeypatch):
    monkeypatch.setattr(speak, "find_speaker", lambda: None)
    with pytest.raises(DataError, match="apt install espeak-ng"):
        list(Spoken().rows())


def test_more_phrases_than_there_are_is_refused():
    numbers, things = 100, 8 * 10
    every = numbers + things + 20 * things
    assert SpokenSettings(largest=99, n_examples=every).n_examples == every
    with pytest.raises(ValueError, match=f"more than the {every} phrases.*largest = 99"):
        SpokenSettings(largest=99, n_examples=every + 1)


def test_voices_are_held_out_with_phrases_that_nobody_else_says(tmp_path, monkeypatch):
    monkeypatch.setenv("MLXT_CACHE", str(tmp_path))
    monkeypatch.setattr(spoken, "need_speaker", Tones)
    monkeypatch.setattr(spoken, "find_speaker", Tones)
    data = table()
    rows = Spoken(data.settings).records
    assert len({row["text"] for row in rows}) == len(rows) == 24
    ready = prepare(data)
    held = data.batch.held_out(ready, "valid", BatchSetting(seq_len=48, seed=0))
    batch = held.batch(np.arange(held.per_epoch))
    heard = {
        ready.tokenizer.decode([t for t in row[1:] if t < 24]).rstrip() for row in batch["tokens"]
    }
    voices = {row["voice"] for row in rows if row["text"] in heard}
    assert voices
    others = {row["voice"] for row in rows if row["text"] not in heard}
    assert not voices & others
    frames = data.batch.features(data.batch.accept(Piece("", record=rows[0])).record["audio"])
    assert batch["frames"].shape[1:] == frames.shape == (200, 8)
    train = data.batch.train(ready, BatchSetting(seq_len=48, seed=0)).batch(np.arange(24))
    together = np.concatenate([train["frames"], batch["frames"]])
    assert np.abs(together - frames).max(axis=(1, 2)).min() < 1e-3
