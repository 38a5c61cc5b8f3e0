"""The position of a training stream, saved with a checkpoint."""

from dataclasses import asdict, dataclass
from typing import Any

from ..core.errors import DataError


@dataclass(frozen=True)
class Cursor:
    """The number of rows delivered so far, over all epochs and processes.

    The other fields fix which rows those were. So batch size and gradient accumulation may change
    between runs, and the rows still come in the same order, each once.
    """

    rows: int = 0
    seed: int = 0
    seq_len: int = 0
    n_tokens: int = 0
    """Tokens (or records) of the split."""
    shuffle: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Return it as a JSON value."""
        return asdict(self)

    def resumed(self, saved: dict[str, Any] | None) -> "Cursor":
        """Return this stream's cursor at the position of the saved one.

        Raises:
            DataError: the saved cursor belongs to a stream of other rows.
        """
        if not saved:
            return self
        try:
            cursor = Cursor(**saved)
        except TypeError as error:
            raise DataError(f"The saved place in the data can't be read: {error}.") from None
        saved_fields = asdict(cursor)
        for name, ours in asdict(self).items():
            theirs = saved_fields[name]
            if name != "rows" and ours != theirs:
                raise DataError(
                    f"The saved place in the data is one of a stream with {name} {theirs}, and "
                    f"this one has {ours}: the rows are others. Resume with the same text, "
                    "train.seed, train.seq_len and data.shuffle, or start a new run."
                )
        return cursor
