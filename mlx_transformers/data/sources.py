"""Which source of text a `[data]` table means."""

from .config import Data
from .corpora.table import CORPORA
from .files import Files
from .hub import Hub
from .source import Source


def open_source(data: Data) -> Source:
    """The source that a `[data]` table names; `valid_path` is another one.

    Raises:
        DataError: a file or corpus that can't be had.
    """
    key = None if data.batch.reads_records else data.text_key
    if data.path is not None:
        return Files(data.path, key)
    if data.dataset is not None:
        return Hub(data.dataset, data.dataset_config, key)
    assert data.corpus is not None
    return CORPORA[data.corpus]()


def open_valid_source(data: Data) -> Source | None:
    """The separate source for validation, where `data.valid_path` names one."""
    key = None if data.batch.reads_records else data.text_key
    return None if data.valid_path is None else Files(data.valid_path, key)
