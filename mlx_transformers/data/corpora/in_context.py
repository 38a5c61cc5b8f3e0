"""In-context learning: examples of a mapping that no other text has."""

import string
from typing import ClassVar

import numpy as np
from pydantic import Field, model_validator

from .generated import GeneratedCorpus, Settings
from .records import Row


class InContextSettings(Settings):
    """Settings of `in_context`."""

    n_symbols: int = Field(8, ge=2, le=10)
    """Letters, and as many labels."""
    n_used: int = Field(4, ge=1)
    """Letters that occur in a text."""
    n_pairs: int = Field(17, ge=2)
    """Questions of a text with their answers."""

    @model_validator(mode="after")
    def _has_letters(self) -> "InContextSettings":
        if self.n_used > self.n_symbols:
            raise ValueError(
                f"n_used = {self.n_used} letters can't occur in a text if there are n_symbols = "
                f"{self.n_symbols}: set n_used to {self.n_symbols} or fewer."
            )
        return self


class InContext(GeneratedCorpus):
    """Letters and their labels, by a mapping of the text's own: `c F`, `a B`, `c F`.

    A text draws `n_used` of `n_symbols` letters, a label for each, no two the same, and its
    questions from these letters with replacement. All tokens are predicted: which letters a text
    uses is learned first, and labels from there on. The last question is also `question` and
    `answer`, with all labels as its `choices`, and the others its `examples`, as `mlxt eval
    --questions` reads them.

    Chan et al. 2022, "Data Distributional Properties Drive Emergent In-Context Learning in
    Transformers", section 2: labels that change from text to text, and bursty texts, in which few
    of many classes recur.
    """

    name = "in_context"
    config: ClassVar[type[Settings]] = InContextSettings
    settings: InContextSettings

    def example(self, rng: np.random.Generator) -> Row:
        n = self.settings.n_symbols
        labels = list(string.ascii_uppercase[:n])
        used = [string.ascii_lowercase[i] for i in rng.permutation(n)[: self.settings.n_used]]
        mapping = dict(zip(used, (labels[i] for i in rng.permutation(n)), strict=False))
        asked = [used[i] for i in rng.integers(len(used), size=self.settings.n_pairs)]
        pairs = [{"question": letter, "answer": mapping[letter]} for letter in asked]
        text = " ".join(f"{pair['question']} {pair['answer']}" for pair in pairs)
        last = pairs[-1] | {"choices": labels}
        return {"text": text, "spans": [[0, len(text)]], **last, "examples": pairs[:-1]}
