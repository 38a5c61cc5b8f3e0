"""Copying a sequence, forwards or backwards."""

from typing import ClassVar

import numpy as np
from pydantic import Field, model_validator

from .generated import GeneratedCorpus, Settings, spanned
from .records import Row


class CopySettings(Settings):
    """Settings of `copy`."""

    min_length: int = Field(8, ge=1)
    """Tokens of the shortest sequence."""
    max_length: int = Field(24, ge=1)
    """Tokens of the longest sequence."""
    vocab_size: int = Field(16, ge=2)
    """Different tokens."""
    reverse: bool = False
    """Whether the sequence is repeated backwards."""

    @model_validator(mode="after")
    def _ordered(self) -> "CopySettings":
        if self.min_length > self.max_length:
            raise ValueError(f"min_length {self.min_length} is above max_length {self.max_length}")
        return self


class Copy(GeneratedCorpus):
    """Copying (Graves et al. 2014, section 4.1): a random sequence, then the same once more.

    `a3 a1 a4 copy a3 a1 a4`; backwards with `reverse`.
    """

    name = "copy"
    config: ClassVar[type[Settings]] = CopySettings
    settings: CopySettings

    def example(self, rng: np.random.Generator) -> Row:
        s = self.settings
        length = int(rng.integers(s.min_length, s.max_length + 1))
        words = [f"a{symbol}" for symbol in rng.choice(s.vocab_size, length)]
        again = words[::-1] if s.reverse else words
        parts = [*((word, False) for word in words), ("copy", False)]
        return spanned([*parts, *((word, True) for word in again)])
