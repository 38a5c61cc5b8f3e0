"""Where a training stream stands: a number of rows, and what that number is a number of."""

from dataclasses import asdict, dataclass
from typing import Any

from ..core.errors import DataError


@dataclass(frozen=True)
class Cursor:
    """The rows that have been given out, over all epochs and all processes.

    Which rows those were follows from the rest: so the batch size and the accumulation may
    change between runs, and the rows still come in the same order, each once.
    """

    rows: int = 0
    seed: int = 0
    seq_len: int = 0
    n_tokens: int = 0
    """Tokens of the split."""
    shuffle: bool = True

    def to_dict(self) -> dict[str, Any]:
        """As a JSON value."""
        return asdict(self)

    def resumed(self, saved: dict[str, Any] | None) -> "Cursor":
        """This stream's cursor, at the place where the saved one stood.

        Raises:
            DataError: the saved one belongs to a stream of other rows.
        """
        if not saved:
            return self
        try:
            there = Cursor(**saved)
        except TypeError as error:
            raise DataError(f"The saved place in the data can't be read: {error}.") from None
        for name, ours in asdict(self).items():
            theirs = getattr(there, name)
            if name != "rows" and ours != theirs:
                raise DataError(
                    f"The saved place in the data is one of a stream with {name} {theirs}, and "
                    f"this one has {ours}: the rows are others. Resume with the same text, "
                    "train.seed, train.seq_len and data.shuffle, or start a new run."
                )
        return there
