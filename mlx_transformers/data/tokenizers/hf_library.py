"""The Hugging Face tokenizers library, for tokenizers that are trained with it."""

from collections.abc import Iterable
from types import ModuleType

from ...core.errors import DataError
from .sample import sample


def tokenizers_library(what: str) -> ModuleType:
    """Return the library.

    Raises:
        DataError: it is not installed.
    """
    try:
        import tokenizers
    except ImportError:
        raise DataError(
            f"{what} needs the `tokenizers` package: pip install tokenizers. A sentencepiece "
            "tokenizer (data.tokenizer.kind = 'sentencepiece') needs no other package."
        ) from None
    return tokenizers


def training_text(texts: Iterable[str], n_bytes: int) -> list[str]:
    """Return an even sample of a text to train on, in chunks.

    Raises:
        DataError: it has no words.
    """
    chunks = sample(texts, n_bytes)
    if not any(chunk.strip() for chunk in chunks):
        raise DataError("The text has no words to train a tokenizer on.")
    return chunks
