"""In-context learning: examples of a mapping that no other text has."""

import string
from typing import ClassVar

import numpy as np
from pydantic import Field

from .generated import GeneratedCorpus, Settings
from .records import Row


class InContextSettings(Settings):
    """Settings of `in_context`."""

    n_symbols: int = Field(8, ge=2, le=26)
    """Letters that a mapping is of."""
    n_pairs: int = Field(17, ge=2)
    """Questions of a text with their answers."""


class InContext(GeneratedCorpus):
    """Letters and what they are mapped to, by a mapping of the text's own: `c=r`, `a=t`, `c=r`.

    A text draws a permutation of `n_symbols` letters, and questions with replacement, between empty
    lines; all answers are predicted. The last one is also `question` and `answer`, and the others
    its `examples`, as `mlxt eval --questions` reads them. Of n letters, k examples show a
    question's own with probability 1 - (1 - 1/n)^k.

    Chan et al. 2022, "Data Distributional Properties Drive Emergent In-Context Learning in
    Transformers", section 2: labels that change from sequence to sequence.
    """

    name = "in_context"
    config: ClassVar[type[Settings]] = InContextSettings
    settings: InContextSettings

    def example(self, rng: np.random.Generator) -> Row:
        n = self.settings.n_symbols
        letters = string.ascii_lowercase[:n]
        mapping = dict(zip(letters, (letters[i] for i in rng.permutation(n)), strict=True))
        asked = [letters[i] for i in rng.integers(n, size=self.settings.n_pairs)]
        pairs = [{"question": letter, "answer": mapping[letter]} for letter in asked]
        texts = [f"{pair['question']}={pair['answer']}" for pair in pairs]
        step = len("c=r\n\n")
        spans = [[step * i + 2, step * i + 3] for i in range(len(pairs))]
        return {"text": "\n\n".join(texts), "spans": spans, **pairs[-1], "examples": pairs[:-1]}
