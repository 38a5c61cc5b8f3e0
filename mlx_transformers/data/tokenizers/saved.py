"""A tokenizer that a run has, for another run."""

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar, Literal

from ...recipe.config import Kind
from .load import load_tokenizer
from .tokenizer import Tokenizer


class Saved(Kind):
    """The tokenizer that a run or a prepared set keeps, its control tokens included, so that every
    token is the number that it was there: what fine-tuning gives a run."""

    kind: Literal["saved"] = "saved"
    reads: ClassVar[str] = "nothing"

    path: str
    """The folder `tokenizer` of a run."""

    def build(self, texts: Iterable[str]) -> Tokenizer:
        """The tokenizer; `texts` is not looked at.

        Raises:
            DataError: there is none in that folder, or it is damaged.
        """
        return load_tokenizer(Path(self.path).expanduser())
