"""Selective copying: some tokens among noise, to be repeated in order."""

from typing import ClassVar

import numpy as np
from pydantic import Field, model_validator

from .generated import GeneratedCorpus, Settings, spanned
from .records import Row


class SelectiveCopySettings(Settings):
    """Settings of `selective_copy`."""

    n_tokens: int = Field(8, ge=1)
    """Tokens to be copied."""
    context: int = Field(64, ge=1)
    """Tokens before the copy, noise included."""
    vocab_size: int = Field(16, ge=2)
    """Different tokens that may be copied."""

    @model_validator(mode="after")
    def _fits(self) -> "SelectiveCopySettings":
        if self.n_tokens > self.context:
            raise ValueError(f"{self.n_tokens} tokens don't fit in context = {self.context}")
        return self


class SelectiveCopy(GeneratedCorpus):
    """Selective copying (Gu and Dao 2023, Mamba, section 4.1.1): tokens among noise, in order.

    `. a3 . . a1 . copy a3 a1`: the places of the tokens are random, so that a convolution with
    fixed weights can't find them.
    """

    name = "selective_copy"
    config: ClassVar[type[Settings]] = SelectiveCopySettings
    settings: SelectiveCopySettings

    def example(self, rng: np.random.Generator) -> Row:
        s = self.settings
        places = np.sort(rng.choice(s.context, s.n_tokens, replace=False)).tolist()
        symbols = [f"a{symbol}" for symbol in rng.choice(s.vocab_size, s.n_tokens)]
        at = dict(zip(places, symbols, strict=True))
        parts = [(at.get(place, "."), False) for place in range(s.context)]
        return spanned([*parts, ("copy", False), *((symbol, True) for symbol in symbols)])
