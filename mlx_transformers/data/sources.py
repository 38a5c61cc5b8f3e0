"""Opens the source that a `[data]` table names."""

from .config import Data
from .corpora.table import CORPORA
from .files import Files
from .hub import Hub
from .source import Source


def open_source(data: Data) -> Source:
    """Return the source of a `[data]` table, without `valid_path`.

    Raises:
        DataError: a file or corpus is missing.
    """
    key = None if data.batch.reads_records else data.text_key
    if data.path is not None:
        return Files(data.path, key)
    if data.dataset is not None:
        return Hub(data.dataset, data.dataset_config, key)
    assert data.corpus is not None
    return CORPORA[data.corpus]()


def open_valid_source(data: Data) -> Source | None:
    """Return the separate source for validation (`data.valid_path`), or None."""
    key = None if data.batch.reads_records else data.text_key
    return None if data.valid_path is None else Files(data.valid_path, key)
