"""A speaker of tones in place of speech, for tests on machines that can't speak."""

import numpy as np

from mlx_transformers.data.config import Data
from mlx_transformers.data.sound.speak import Speaker


class Tones(Speaker):
    """Each word is a tone, whose height depends on the word and the voice."""

    name = "tones"
    voices = tuple(f"voice {n}" for n in range(8))

    def say(self, text: str, voice: str, speed: int) -> np.ndarray:
        at = np.arange(1600) / 16000
        pitch = 200 * (1 + self.voices.index(voice))
        heights = [pitch + 10 * sum(map(ord, word)) % 2000 for word in text.split()]
        return np.concatenate([np.sin(2 * np.pi * height * at) for height in heights])


def table() -> Data:
    """A `[data]` table of 24 phrases."""
    return Data.model_validate(
        {
            "corpus": "spoken",
            "settings": {"n_examples": 24},
            "tokenizer": {"kind": "char"},
            "batch": {"kind": "transcripts", "n_mels": 8, "seconds": 2.0},
            "valid_fraction": 0.4,
        }
    )
