"""What a source of text is."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Literal

from .pieces import Piece


class Source(ABC):
    """A text that can be read again and again, from the start, piece by piece."""

    name: str
    """Short, fit for a folder name."""
    licence: str = "unknown"
    attribution: str = ""
    usual_split: Literal["documents", "tail"] = "documents"
    """How it is split when the recipe doesn't say; "tail" for what is one long document."""
    ready_tokens: bool = False
    """Whether its pieces are tokens already."""

    def __str__(self) -> str:
        return f"the corpus '{self.name}'"

    @abstractmethod
    def pieces(self) -> Iterator[Piece]:
        """Its documents in order, in pieces. The same every time."""

    @abstractmethod
    def identity(self) -> Any:
        """A JSON value, cheap to get, that changes whenever the content may have changed."""

    @abstractmethod
    def digest(self) -> str:
        """A hash of the content, however long that takes."""

    def n_bytes(self) -> int | None:
        """Size in bytes for a progress bar, when it is known."""
        return None
