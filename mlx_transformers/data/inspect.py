"""Reports on corpora and prepared sets, for `mlxt data list` and `mlxt data inspect`."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ..core.cache import cache_folder
from ..core.errors import DataError
from .config import Data
from .corpora.table import CORPORA
from .data_key import DataKey
from .pieces import Record
from .prepared import Prepared
from .shards import SPLITS, Split

BREAK = "⟦document⟧"
"""Marks the start of a document in the rows shown."""


@dataclass(frozen=True)
class CorpusInfo:
    """A built-in corpus."""

    name: str
    what: str
    size: str
    licence: str
    attribution: str
    available: bool
    """Whether it can be prepared without a download."""


@dataclass(frozen=True)
class SplitReport:
    """The contents of a split."""

    split: Split
    documents: int
    tokens: int
    bytes: int
    bytes_per_token: float
    tokens_used: int
    """Distinct tokens in its first `SEEN` tokens."""
    rows: list[str]
    """A few rows of its text, evenly spaced."""


@dataclass(frozen=True)
class Report:
    """The contents of a prepared set."""

    name: str
    folder: str
    licence: str
    attribution: str
    tokenizer: dict[str, Any]
    dtype: str
    disk_bytes: int
    splits: list[SplitReport]
    packages: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return it as a JSON value."""
        return asdict(self)


SEEN = 1 << 22


def corpora() -> list[CorpusInfo]:
    """Return the built-in corpora."""
    return [
        CorpusInfo(
            name=name,
            what=(corpus.__doc__ or "").split("\n")[0],
            size=corpus.size,
            licence=corpus.licence,
            attribution=corpus.attribution,
            available=corpus.available(),
        )
        for name, corpus in CORPORA.items()
    ]


def prepared_sets() -> list[Prepared]:
    """Return the finished sets in the cache, by name."""
    manifests = sorted((cache_folder() / "data").glob("*/manifest.json"))
    finished = [path for path in manifests if path.parent.suffix not in (".partial", ".old")]
    sets = []
    for path in finished:
        with suppress(DataError):  # a damaged one is prepared again when it is needed
            sets.append(Prepared(path.parent))
    return sets


def report(prepared: Prepared, *, n_rows: int = 3, length: int = 64) -> Report:
    """Return counts of a prepared set, and `n_rows` rows of `length` tokens of each split."""
    manifest = prepared.manifest
    files = [path for path in prepared.folder.rglob("*") if path.is_file()]
    return Report(
        name=manifest["name"],
        folder=str(prepared.folder),
        licence=manifest["licence"],
        attribution=manifest["attribution"],
        tokenizer=manifest["tokenizer"],
        dtype=np.dtype(manifest["dtype"]).name,
        disk_bytes=sum(path.stat().st_size for path in files),
        splits=[_split_report(prepared, split, n_rows, length) for split in SPLITS],
        packages=manifest["packages"],
    )


def records(data: Data, split: Split) -> Iterator[Record]:
    """Yield the records of a split as their source has them, in its order.

    Raises:
        DataError: the text is missing, or is no records.
    """
    for piece_split, piece in DataKey(data).pieces():
        if piece.record is None:
            raise DataError(
                "The recipe's data is running text, not records: set data.batch.kind to one that "
                "reads records, such as 'completions' or 'chat'."
            )
        if piece_split == split:
            yield piece.record


def _split_report(prepared: Prepared, split: Split, n_rows: int, length: int) -> SplitReport:
    tokens = prepared.tokens(split)
    starts = [len(tokens) * row // n_rows for row in range(n_rows)] if len(tokens) else []
    return SplitReport(
        split=split,
        documents=prepared.count(split, "documents"),
        tokens=len(tokens),
        bytes=prepared.count(split, "bytes"),
        bytes_per_token=prepared.bytes_per_token(split),
        tokens_used=len(np.unique(tokens[:SEEN])),
        rows=[shown(prepared, split, start, length) for start in starts],
    )


def shown(prepared: Prepared, split: Split, start: int, length: int) -> str:
    """Return the text of `length` tokens from `start`, with `BREAK` where a document starts."""
    boundaries = prepared.boundaries(split)
    stop = min(start + length, prepared.count(split))
    inside = boundaries[np.searchsorted(boundaries, start) : np.searchsorted(boundaries, stop)]
    tokens, tokenizer = prepared.tokens(split), prepared.tokenizer
    cuts = [start, *inside.tolist(), stop]
    parts = [tokenizer.decode(tokens[begin:end]) for begin, end in pairwise(cuts)]
    return BREAK.join(parts)
