"""Records of a prepared set: tuples of integer arrays, each field stored as one document."""

import warnings
from collections.abc import Sequence

import numpy as np

from ..core.errors import DataError, Notice
from .prepared import Prepared
from .shards import Split


class Records:
    """The records of a split, each with `n_fields` integer arrays.

    Raises:
        DataError: the split has no records.
    """

    def __init__(self, prepared: Prepared, split: Split, n_fields: int) -> None:
        self.tokens, self.n_fields = prepared.tokens(split), n_fields
        self.folder = prepared.folder
        self._starts = np.append(prepared.boundaries(split), len(self.tokens))
        self._n = (len(self._starts) - 1) // n_fields
        if not self._n:
            raise DataError(
                f"The split '{split}' of {prepared.folder.name} has no records: give more data, "
                "or another data.valid_fraction or data.valid_path."
            )

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, number: int) -> tuple[np.ndarray, ...]:
        first = number * self.n_fields
        ends = self._starts[first : first + self.n_fields + 1]
        record_tokens = self.tokens[int(ends[0]) : int(ends[-1])].astype(np.int32)
        return tuple(np.split(record_tokens, (ends[1:-1] - ends[0]).astype(np.int64)))

    def require_length(self, limit: int) -> None:
        """Check that no field is longer than `limit` tokens.

        Raises:
            DataError: one is.
        """
        longest = int(self.lengths().max())
        if longest > limit:
            raise DataError(
                f"A record of {self.folder.name} has {longest} tokens, more than train.seq_len + 1 "
                f"= {limit}. Set train.seq_len (and model.max_seq_len) to {longest - 1} or more."
            )

    def require_completions(self, fields: Sequence[int], seq_len: int) -> None:
        """Check that rows of `seq_len + 1` tokens hold a part of their completions; warn of those
        that don't.

        Args:
            fields: numbers of the fields that are 1 where a token of a completion is.
            seq_len: tokens that a row has before its last one.

        Raises:
            DataError: no row holds any.
        """
        rows = range(len(self))
        lost = sum(any(not self[i][f][1 : seq_len + 1].any() for f in fields) for i in rows)
        if not lost:
            return
        needed = int(self.lengths()[:, list(fields)].max()) - 1
        message = (
            f"{lost:,} of {len(self):,} rows of {self.folder.name} lose a whole completion, since "
            f"the prompt fills the first train.seq_len = {seq_len} tokens. All fit with train."
            f"seq_len (and model.max_seq_len) = {needed}."
        )
        if lost == len(self):
            raise DataError(message)
        warnings.warn(message, Notice, stacklevel=2)

    def warn_of_cut(self, beyond: np.ndarray) -> None:
        """Warn of texts that lose their ends: `beyond` [records] are the tokens that a row has no
        room for, 0 or less where all fit."""
        if cut := int((beyond > 0).sum()):
            warnings.warn(
                f"{cut:,} of {len(self):,} texts of {self.folder.name} lose their ends. All fit "
                f"with train.seq_len (and model.max_seq_len) raised by {int(beyond.max())}.",
                Notice,
                stacklevel=2,
            )

    def lengths(self) -> np.ndarray:
        """Return the length of each field: int64 [records, n_fields]."""
        return np.diff(self._starts)[: self._n * self.n_fields].reshape(self._n, self.n_fields)
