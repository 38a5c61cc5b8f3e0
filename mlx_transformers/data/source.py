"""What a source of text is."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

from .pieces import Piece


class Source(ABC):
    """A text that can be read again and again, from the start, piece by piece."""

    name: str
    """Short, fit for a folder name."""
    licence: str = "unknown"
    attribution: str = ""
    one_document: bool = False
    """Whether all of it is one document, so that it can only be split inside."""
    ready_tokens: bool = False
    """Whether its pieces are tokens already."""

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
