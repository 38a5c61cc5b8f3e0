"""A prepared set: a folder of tokens, with the tokenizer that made them and a manifest."""

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import DataError
from .shards import Tokens, index_path
from .split import Split
from .tokenizers.load import load_tokenizer
from .tokenizers.tokenizer import Tokenizer

FORMAT = 1
"""Changes when older sets can no longer be read, and so are made anew."""


class Prepared:
    """What `prepare` made; opening it reads only the manifest.

    Raises:
        DataError: the folder holds no finished set.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self.manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_bytes())
        except (OSError, ValueError) as error:
            raise DataError(
                f"{folder} is no prepared data set ({error}). Make one: mlxt data prepare."
            ) from error

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of these tokens."""
        return load_tokenizer(self.folder / "tokenizer")

    @property
    def fingerprint(self) -> str:
        """A hash of the tokens' origin: equal for equal text, split and tokenizer."""
        return self.manifest["fingerprint"]

    @property
    def labels(self) -> list[str]:
        """The classes of labelled records by number; none where there are no labels."""
        return self.manifest.get("labels", [])

    def count(self, split: Split, what: str = "tokens") -> int:
        """How many "tokens", "documents" or (UTF-8) "bytes" a split holds."""
        return self.manifest["splits"][split][what]

    def bytes_per_token(self, split: Split) -> float:
        """UTF-8 bytes of text per token: nats per token / ln 2 / this = bits per byte."""
        return self.count(split, "bytes") / max(1, self.count(split))

    def tokens(self, split: Split) -> Tokens:
        """The tokens of a split, memory-mapped."""
        dtype = np.dtype(self.manifest["dtype"])
        n_tokens, shard_tokens = self.count(split), self.manifest["shard_tokens"]
        return Tokens(self.folder, split, dtype, n_tokens, shard_tokens)

    def boundaries(self, split: Split) -> np.ndarray:
        """Where each document of a split starts: int64 [documents], ascending, the first 0."""
        path, n_documents = index_path(self.folder, split), self.count(split, "documents")
        if path.stat().st_size != 8 * n_documents:
            raise DataError(
                f"The prepared set is damaged: {path} should list {n_documents} documents. "
                f"Remove the folder {self.folder} and run again: it is made anew."
            )
        if n_documents == 0:
            return np.zeros(0, dtype=np.int64)
        # Read as signed: beside int64 positions, NumPy would compare uint64 as floats.
        return np.memmap(path, dtype="<i8", mode="r", shape=(n_documents,))
