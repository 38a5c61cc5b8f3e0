"""Opens the source that a `[data]` table names."""

from collections.abc import Callable

from ..core.errors import DataError
from .config import Data
from .corpora.configured import Configured
from .corpora.table import CORPORA
from .files import Files
from .hub import Hub
from .source import Source


def open_source(data: Data) -> Source:
    """Return the source of a `[data]` table, without `valid_path`.

    Raises:
        DataError: a file or corpus is missing, or no file is for training.
    """
    key = None if data.batch.reads_records else data.text_key
    if data.path is not None:
        files = Files(data.path, key, _vocab_size(data))
        if not files.found.train:
            raise DataError(
                f"data.path = {data.path!r} has no training file: by its name {files} is for "
                "validation or test. Call the training file train (as in train.txt), or name the "
                "file itself: a file that data.path names is used whatever its name."
            )
        return files
    if data.dataset is not None:
        return Hub(data.dataset, data.dataset_config, key)
    assert data.corpus is not None
    corpus = CORPORA[data.corpus]
    return corpus(data.settings) if issubclass(corpus, Configured) else corpus()


def open_valid_source(data: Data, source: Source) -> Source | None:
    """Return the separate source for validation, or None: `data.valid_path`, or the files of
    `data.path` whose names say so.

    Raises:
        DataError: a file is missing.
    """
    if data.valid_path is not None:
        key = None if data.batch.reads_records else data.text_key
        files = Files(data.valid_path, key, _vocab_size(data))
        return files.restricted(files.found.valid or files.files)
    if isinstance(source, Files) and source.found.valid:
        return source.restricted(source.found.valid)
    return None


def _vocab_size(data: Data) -> Callable[[], int] | None:
    """Return the size of the vocabulary, if it doesn't depend on the text."""
    if data.tokenizer.is_trained:
        return None
    return lambda: data.tokenizer.build([]).vocab_size
