"""The tokenizer of a run or prepared set, reused by another run."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from ...core.paths import expanded
from .load import load_tokenizer
from .tokenizer import Tokenizer, TokenizerKind


class Saved(TokenizerKind):
    """The tokenizer saved in a run or prepared set, with its control tokens, so that every token
    keeps its id. Fine-tuning uses it."""

    kind: Literal["saved"] = "saved"

    path: str
    """The folder `tokenizer` of a run."""

    def build(self, texts: Iterable[str]) -> Tokenizer:
        """Return the tokenizer; `texts` is not read.

        Raises:
            DataError: the folder holds none, or it is damaged.
        """
        return load_tokenizer(self.file())

    def file(self) -> Path:
        return expanded(self.path)
