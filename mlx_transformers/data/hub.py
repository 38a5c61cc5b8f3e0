"""A Hugging Face data set as a source, read as a stream."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from ..core.errors import DataError
from .files import document, record
from .formats import SourceRow
from .pieces import Piece
from .source import Source

CURE = "A local file (data.path=FILE) or data.corpus=stdlib needs no download."


class Hub(Source):
    """The "train" split of a data set; a row is a document.

    A prepared set is never refreshed: without the network, a change of the data set is unknown.
    """

    def __init__(
        self, dataset: str, config: str | None = None, text_key: str | None = "text"
    ) -> None:
        self.dataset, self.config, self.text_key = dataset, config, text_key
        self.name = dataset.replace("/", "-")
        self.attribution = f"Hugging Face data set {dataset}"

    def __str__(self) -> str:
        return f"the data set '{self.dataset}'"

    def pieces(self) -> Iterator[Piece]:
        for number, row in enumerate(self._rows()):
            where = f"{self.dataset}, row {number}"
            if self.text_key is None:
                yield record(SourceRow(where, row))
            else:
                yield from document(SourceRow(where, row), self.text_key)

    def _rows(self) -> Iterator[dict[str, Any]]:
        try:
            import datasets
        except ImportError:
            raise DataError(
                f"data.dataset='{self.dataset}' needs the `datasets` package: "
                f"pip install datasets. {CURE}"
            ) from None
        try:
            yield from datasets.load_dataset(
                self.dataset, self.config, split="train", streaming=True
            )
        except Exception as error:  # the network layers below raise errors of many kinds
            reason = (str(error) or type(error).__name__).splitlines()[0]
            message = f"The data set '{self.dataset}' can't be read: {reason} {CURE}"
            raise DataError(message) from error

    def identity(self) -> object:
        return [self.dataset, self.config]

    def digest(self) -> str:
        return hashlib.sha256(json.dumps(self.identity()).encode()).hexdigest()
