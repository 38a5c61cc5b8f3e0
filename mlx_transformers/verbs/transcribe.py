"""Transcribes speech: `mlxt transcribe`."""

from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import numpy as np

from ..assembly.recipe import Recipe, load_recipe
from ..assembly.saved import load
from ..core.errors import RunError
from ..data.batches.transcripts import Transcripts
from ..data.tokenizers.tokenizer import Tokenizer
from ..decode.beam import Beams, best_targets
from ..models.model import Decodable, Model
from ..runs.folder import find_checkpoint
from .tasks.task import GREEDY

BATCH = 16
"""Windows of a sound that are read at once."""


@dataclass(frozen=True)
class Recognizer:
    """A speech recognition model with its tokenizer and the kind of its features.

    Attributes:
        model: the model.
        tokenizer: the tokenizer of its texts.
        kind: how sounds become frames.
        limit: the most tokens of a text.
    """

    model: Decodable
    tokenizer: Tokenizer
    kind: Transcripts
    limit: int

    @classmethod
    def of(cls, recipe: Recipe, model: Model, tokenizer: Tokenizer) -> "Recognizer":
        """The recognizer of a run.

        Raises:
            RunError: the run is no model of speech recognition.
        """
        kind = recipe.data.batch
        if not isinstance(kind, Transcripts) or not isinstance(model, Decodable):
            raise RunError(
                f"This run has batches of kind '{kind.kind}', so it reads no sound: name a run "
                "with data.batch.kind = 'transcripts', such as one of recipes/speech."
            )
        return cls(model, tokenizer, kind, min(recipe.train.seq_len, model.max_seq_len - 1))

    def texts(self, frames: mx.array, beams: Beams = GREEDY) -> list[str]:
        """Transcribe each of `frames [B, F, n_mels]`."""
        ranked = best_targets(
            self.model,
            frames,
            start=self.tokenizer.control("start"),
            end=self.tokenizer.control("end"),
            limit=self.limit,
            beams=beams,
            vocab_size=min(self.model.vocab_size, self.tokenizer.vocab_size),
            name="frames",
        )
        return [self.tokenizer.decode(best[0].tokens) for best in ranked]

    def transcript(self, samples: np.ndarray, beams: Beams = GREEDY) -> str:
        """Transcribe samples `[n]` at 16 kHz, window after window."""
        width = self.kind.samples
        windows = [samples[at : at + width] for at in range(0, max(1, len(samples)), width)]
        texts: list[str] = []
        for first in range(0, len(windows), BATCH):
            some = np.stack(
                [self.kind.features(window) for window in windows[first : first + BATCH]]
            )
            texts += self.texts(mx.array(some), beams)
        return " ".join(text for text in texts if text)


def load_recognizer(run: str | Path | None) -> Recognizer:
    """Load the recognizer of a run (None: the newest), from its best checkpoint or the one named.

    Raises:
        RunError: there is no such run, or it reads no sound.
    """
    folder, checkpoint = find_checkpoint(run)
    return Recognizer.of(load_recipe(folder.recipe), *load(checkpoint))
