"""Nested brackets of several kinds: which one closes next."""

from typing import ClassVar

import numpy as np
from pydantic import Field, model_validator

from .generated import GeneratedCorpus, Settings, spanned
from .records import Row


class BracketSettings(Settings):
    """Settings of `brackets`."""

    n_kinds: int = Field(8, ge=1)
    """Kinds of brackets k."""
    max_depth: int = Field(8, ge=1)
    """Brackets that are open at once, at most."""
    length: int = Field(64, ge=2)
    """Tokens of an example, an even number."""

    @model_validator(mode="after")
    def _even(self) -> "BracketSettings":
        if self.length % 2:
            raise ValueError(f"length = {self.length} is odd, and every bracket closes")
        return self


class Brackets(GeneratedCorpus):
    """Nested brackets (Dyck-k of bounded depth, Hewitt et al. 2020): kinds of closing brackets.

    `(3 (1 )1 (7 )7 )3`: each closing bracket is of the kind that was opened last, and is predicted.
    """

    name = "brackets"
    config: ClassVar[type[Settings]] = BracketSettings
    settings: BracketSettings

    def example(self, rng: np.random.Generator) -> Row:
        s = self.settings
        stack: list[int] = []
        parts = []
        for left in range(s.length, 0, -1):
            can_open = len(stack) < min(s.max_depth, left - 1)
            if not stack or (can_open and rng.random() < 0.5):
                stack.append(int(rng.integers(s.n_kinds)))
                parts.append((f"({stack[-1]}", False))
            else:
                parts.append((f"){stack.pop()}", True))
        return spanned(parts)
