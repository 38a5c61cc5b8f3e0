"""Induction heads: the token that followed a special one, when that comes again."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from .generated import GeneratedCorpus, Settings, spanned
from .records import Row


class InductionSettings(Settings):
    """Settings of `induction`."""

    length: int = Field(256, ge=4)
    """Tokens of an example, the answer not counted."""
    vocab_size: int = Field(16, ge=2)
    """Different tokens beside the special one."""


class Induction(GeneratedCorpus):
    """Induction heads (Olsson et al. 2022; Gu and Dao 2023, Mamba, section 4.1.2).

    `a3 a7 ! a5 a1 ... a2 ! a5`: the special token `!` comes once at a random place and at the end;
    the token after it the first time is predicted.
    """

    name = "induction"
    config: ClassVar[type[Settings]] = InductionSettings
    settings: InductionSettings

    def example(self, rng: np.random.Generator) -> Row:
        s = self.settings
        words = [f"a{symbol}" for symbol in rng.choice(s.vocab_size, s.length - 1)]
        place = int(rng.integers(0, s.length - 2))
        words[place] = "!"
        answer = words[place + 1]
        return spanned([*((word, False) for word in words), ("!", False), (answer, True)])
