"""A prepared data set: a folder of token shards, their tokenizer and a manifest."""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import DataError
from ..core.parse import read_table
from .shards import Split, Tokens, index_path
from .tokenizers.load import load_tokenizer
from .tokenizers.tokenizer import Tokenizer

FORMAT = 1
"""Version of the format; sets of another version are prepared again."""


class Prepared:
    """A prepared set, opened by its manifest alone.

    Raises:
        DataError: the folder holds no finished set.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self.manifest: dict[str, Any] = read_table(folder / "manifest.json")
        except (OSError, ValueError) as error:
            raise DataError(
                f"{folder} is no prepared data set ({error}). Make one: mlxt data prepare."
            ) from error

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that made these tokens."""
        return load_tokenizer(self.folder / "tokenizer")

    @property
    def fingerprint(self) -> str:
        """Hash of text, split and tokenizer; equal for equal content."""
        return self.manifest["fingerprint"]

    @property
    def labels(self) -> list[str]:
        """Class names in order of their ids; empty for unlabelled data."""
        return self.manifest.get("labels", [])

    def count(self, split: Split, what: str = "tokens") -> int:
        """Return the number of "tokens", "documents" or (UTF-8) "bytes" of a split."""
        return self.manifest["splits"][split][what]

    def bytes_per_token(self, split: Split) -> float:
        """Return UTF-8 bytes per token; bits per byte = nats per token / ln 2 / this."""
        return self.count(split, "bytes") / max(1, self.count(split))

    def tokens(self, split: Split) -> Tokens:
        """Return the tokens of a split, memory-mapped."""
        dtype = np.dtype(self.manifest["dtype"])
        n_tokens, shard_tokens = self.count(split), self.manifest["shard_tokens"]
        return Tokens(self.folder, split, dtype, n_tokens, shard_tokens)

    def boundaries(self, split: Split) -> np.ndarray:
        """Return where each document of a split starts: int64 [documents], ascending from 0."""
        path, n_documents = index_path(self.folder, split), self.count(split, "documents")
        if path.stat().st_size != 8 * n_documents:
            raise DataError(
                f"The prepared set is damaged: {path} should list {n_documents} documents. "
                f"Remove the folder {self.folder} and run again: it is made anew."
            )
        if n_documents == 0:
            return np.zeros(0, dtype=np.int64)
        # NumPy compares uint64 with int64 as floats, so it is read as int64.
        return np.memmap(path, dtype="<i8", mode="r", shape=(n_documents,))
