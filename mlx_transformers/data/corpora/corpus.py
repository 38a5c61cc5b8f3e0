"""A built-in corpus: a source with a size, a licence and a download that may be needed."""

from abc import abstractmethod
from typing import ClassVar

from ..source import Source


class Corpus(Source):
    """A built-in corpus. The first line of a class's docstring describes it in `mlxt data list`."""

    size: ClassVar[str]
    """Its size in words, with that of the download."""

    @classmethod
    @abstractmethod
    def available(cls) -> bool:
        """Return whether it can be read without a download."""
