"""A prepared data set: a folder of token shards, their tokenizer and a manifest."""

import hashlib
import json
import zlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import DataError
from ..core.parse import read_table
from .shards import SPLITS, Split, Tokens, damaged, index_path
from .tokenizers.load import load_tokenizer
from .tokenizers.tokenizer import Tokenizer

FORMAT = 1
"""Version of the format; sets of another version are prepared again."""


class Prepared:
    """A prepared set, opened by its manifest alone.

    Attributes:
        folder: its folder.
        mixed: the other texts of a mixture by name, prepared with the same tokenizer.

    Raises:
        DataError: the folder holds no finished set.
    """

    def __init__(self, folder: Path, mixed: Mapping[str, "Prepared"] | None = None) -> None:
        self.folder = folder
        self.mixed = dict(mixed or {})
        try:
            self.manifest: dict[str, Any] = read_table(folder / "manifest.json")
        except (OSError, ValueError) as error:
            raise DataError(
                f"{folder} is no prepared data set ({error}). Make one: mlxt data prepare."
            ) from error
        _check(self.manifest, folder)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that made these tokens."""
        return load_tokenizer(self.folder / "tokenizer")

    @property
    def vocab_size(self) -> int:
        """V of the tokenizer, without loading it."""
        return int(self.manifest["tokenizer"]["vocab_size"])

    @property
    def fingerprint(self) -> str:
        """Hash of text, split and tokenizer, of a mixture of all; equal for equal content."""
        base: str = self.manifest["fingerprint"]
        if not self.mixed:
            return base
        texts = [base, *([name, text.fingerprint] for name, text in self.mixed.items())]
        return hashlib.sha256(json.dumps(texts).encode()).hexdigest()

    @property
    def labels(self) -> list[str]:
        """Class names in order of their ids; empty for unlabelled data."""
        labels: list[str] = self.manifest.get("labels", [])
        return labels

    def count(self, split: Split, what: str = "tokens") -> int:
        """Return the number of "tokens", "documents" or (UTF-8) "bytes" of a split."""
        n: int = self.manifest["splits"][split][what]
        return n

    def bytes_per_token(self, split: Split) -> float:
        """Return UTF-8 bytes per token; bits per byte = nats per token / ln 2 / this."""
        return self.count(split, "bytes") / max(1, self.count(split))

    def tokens(self, split: Split) -> Tokens:
        """Return the tokens of a split, memory-mapped."""
        dtype = np.dtype(self.manifest["dtype"])
        n_tokens, shard_tokens = self.count(split), self.manifest["shard_tokens"]
        checksums = self.manifest.get("checksums", {}).get(split)
        return Tokens(self.folder, split, dtype, n_tokens, shard_tokens, checksums)

    def boundaries(self, split: Split) -> np.ndarray:
        """Return where each document of a split starts: int64 [documents], ascending from 0."""
        path, n_documents = index_path(self.folder, split), self.count(split, "documents")
        if not path.exists() or path.stat().st_size != 8 * n_documents:
            how = f"{path} should list {n_documents} documents"
            raise DataError(damaged(self.folder, how))
        if n_documents == 0:
            return np.zeros(0, dtype=np.int64)
        # NumPy compares uint64 with int64 as floats, so it is read as int64.
        starts = np.memmap(path, dtype="<i8", mode="r", shape=(n_documents,))
        checksum = self.manifest.get("checksums", {}).get(path.name)
        if checksum is not None and zlib.crc32(starts.data) != checksum:
            raise DataError(damaged(self.folder, f"{path} has changed"))
        return starts


def checksums_of(prepared: Prepared) -> dict[str, object]:
    """Return the checksums of the tokens (by split) and of the indexes (by file) of a set."""
    checksums: dict[str, object] = {}
    for split in SPLITS:
        checksums[split] = prepared.tokens(split).checksums()
        starts = np.ascontiguousarray(prepared.boundaries(split))
        checksums[index_path(prepared.folder, split).name] = zlib.crc32(starts.data)
    return checksums


def _check(manifest: dict[str, Any], folder: Path) -> None:
    try:
        counts = [manifest["splits"][split] for split in SPLITS]
        sizes = [count[name] for count in counts for name in ("tokens", "documents", "bytes")]
        intact = all(isinstance(n, int) and n >= 0 for n in (*sizes, manifest["shard_tokens"]))
        intact = intact and all(manifest[name] for name in ("dtype", "tokenizer", "fingerprint"))
        checksums = manifest.get("checksums", {})
        intact = intact and all(isinstance(checksums.get(split, []), list) for split in SPLITS)
        intact = intact and isinstance(manifest.get("labels", []), list)
        intact = intact and np.dtype(manifest["dtype"]).kind == "u"
        intact = intact and int(manifest["tokenizer"]["vocab_size"]) > 0
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        intact = False
    if not intact or not manifest["shard_tokens"]:
        raise DataError(damaged(folder, "its manifest.json lacks something"))
