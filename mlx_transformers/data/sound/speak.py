"""Speech synthesis on this machine: macOS's `say`, or eSpeak NG as a program or Python package."""

import ctypes
import importlib.util
import shutil
import subprocess
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np

from ...core.errors import DataError
from .log_mel import RATE
from .read import read_sound
from .resample import resampled

ENGLISH = ("en-us", "en-029", "en-gb-scotland", "en-gb-x-rp")
TIMBRES = ("m1", "m2", "m3", "m4", "m5", "m6", "m7", "f1", "f2", "f3", "f4", "f5")
MAC_VOICES = (
    *("Alex", "Samantha", "Fred", "Victoria", "Daniel", "Karen", "Moira", "Rishi", "Tessa"),
    *("Albert", "Junior", "Kathy", "Ralph", "Fiona", "Veena", "Agnes", "Bruce", "Princess"),
)
ESPEAK = "espeakng_loader"
"""The Python package that holds eSpeak NG."""


class Speaker(ABC):
    """A program that turns text into speech.

    Attributes:
        name: of the program and its version, since another one speaks otherwise.
        voices: voices that it has.
    """

    name: str
    voices: tuple[str, ...]

    @abstractmethod
    def say(self, text: str, voice: str, speed: int) -> np.ndarray:
        """Return the samples of a text at 16 kHz, spoken with `speed` words a minute.

        Raises:
            DataError: the program fails.
        """


def find_speaker() -> Speaker | None:
    """Return the first speaker that this machine has; None: it has none."""
    if shutil.which("say"):
        return Say()
    if importlib.util.find_spec(ESPEAK) is not None:
        return EspeakLibrary()
    return EspeakProgram() if shutil.which("espeak-ng") else None


def need_speaker() -> Speaker:
    """Return the first speaker that this machine has.

    Raises:
        DataError: it has none; says how to get one.
    """
    speaker = find_speaker()
    if speaker is None:
        raise DataError(
            "The corpus 'spoken' is said by this machine, and it has neither macOS's `say` nor "
            "eSpeak NG: install one with apt install espeak-ng, brew install espeak-ng or "
            "pip install espeakng-loader. Your own recordings need neither (data.path)."
        )
    return speaker


class Program(Speaker):
    """A speaker that is a command and writes a WAV file."""

    @abstractmethod
    def command(self, text: str, voice: str, speed: int, path: str) -> list[str]:
        """The command that writes a text to a file."""

    def say(self, text: str, voice: str, speed: int) -> np.ndarray:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "said.wav"
            command = self.command(text, voice, speed, str(path))
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            if result.returncode or not path.exists():
                reason = (result.stderr.splitlines() or ["no reason given"])[-1]
                raise DataError(f"`{' '.join(command[:3])}` failed to say '{text}': {reason}")
            return read_sound(path, f"'{text}' by {voice}")


class Say(Program):
    """macOS's own speech."""

    name = "say"

    def __init__(self) -> None:
        listed = subprocess.run(["say", "-v", "?"], capture_output=True, text=True, check=False)
        have = {line.split("  ")[0].strip() for line in listed.stdout.splitlines()}
        self.voices = tuple(voice for voice in MAC_VOICES if voice in have)

    def command(self, text: str, voice: str, speed: int, path: str) -> list[str]:
        form = f"--data-format=LEI16@{RATE}"
        return ["say", "-v", voice, "-r", str(speed), form, "-o", path, "--", text]


class Espeak(Speaker):
    """eSpeak NG: accents of English, each in the timbres of men and women."""

    voices = tuple(f"{accent}+{timbre}" for accent in ENGLISH for timbre in TIMBRES)


class EspeakProgram(Espeak, Program):
    """eSpeak NG as a command."""

    name = "espeak-ng"

    def command(self, text: str, voice: str, speed: int, path: str) -> list[str]:
        return ["espeak-ng", "-v", voice, "-s", str(speed), "-w", path, "--", text]


class EspeakLibrary(Espeak):
    """eSpeak NG as the shared library of the package `espeakng-loader`."""

    name = "espeakng-loader"
    SYNCHRONOUS, RATE_PARAMETER, DONT_EXIT, UTF8 = 2, 1, 0x8000, 1

    def __init__(self) -> None:
        spec = importlib.util.find_spec(ESPEAK)
        assert spec is not None
        assert spec.origin is not None
        folder = Path(spec.origin).parent
        (path, *_) = sorted(folder.glob("libespeak-ng.*")) or [folder / "libespeak-ng.so"]
        try:
            self._library = ctypes.CDLL(str(path))
        except OSError as error:
            raise DataError(f"eSpeak NG of {ESPEAK} can't be loaded: {error}.") from None
        data = str(folder / "espeak-ng-data").encode()
        self._rate = self._library.espeak_Initialize(self.SYNCHRONOUS, 0, data, self.DONT_EXIT)
        if self._rate <= 0:
            raise DataError(f"eSpeak NG of {ESPEAK} finds no data in {folder}: install it again.")
        self._parts: list[np.ndarray] = []
        samples = ctypes.POINTER(ctypes.c_short)
        form = ctypes.CFUNCTYPE(ctypes.c_int, samples, ctypes.c_int, ctypes.c_void_p)
        self._callback = form(self._receive)
        self._library.espeak_SetSynthCallback(self._callback)

    def _receive(self, samples: "ctypes._Pointer[ctypes.c_short]", n: int, events: int) -> int:
        if samples and n:
            self._parts.append(np.ctypeslib.as_array(samples, (n,)).copy())
        return 0

    def say(self, text: str, voice: str, speed: int) -> np.ndarray:
        self._parts.clear()
        encoded = text.encode()
        failed = self._library.espeak_SetVoiceByName(voice.encode())
        failed = failed or self._library.espeak_SetParameter(self.RATE_PARAMETER, speed, 0)
        failed = failed or self._library.espeak_Synth(
            encoded, len(encoded) + 1, 0, 0, 0, self.UTF8, None, None
        )
        if failed or not self._parts:
            raise DataError(f"eSpeak NG failed to say '{text}' by the voice {voice}.")
        return resampled(np.concatenate(self._parts) / 32768, self._rate, RATE).astype(np.float32)
