"""A source of text: what every corpus, file and data set answers."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Literal

from .pieces import Piece


class Source(ABC):
    """A text that can be read again and again from the start, piece by piece."""

    name: str
    """Short, fit for a folder name."""
    licence: str = "unknown"
    attribution: str = ""
    usual_split: Literal["documents", "tail"] = "documents"
    """How it is split if the recipe doesn't say; "tail" for a single long document."""
    ready_tokens: bool = False
    """Whether its pieces are token ids already."""

    def __str__(self) -> str:
        return f"the corpus '{self.name}'"

    @abstractmethod
    def pieces(self) -> Iterator[Piece]:
        """Yield its documents in order, in pieces, the same every time."""

    @abstractmethod
    def identity(self) -> object:
        """Return a JSON value, cheap to compute, that changes whenever the content may have."""

    @abstractmethod
    def digest(self) -> str:
        """Return a hash of the content, however long that takes."""

    def n_bytes(self) -> int | None:
        """Return the size in bytes for a progress bar, or None if unknown."""
        return None
