"""A source whose rows a batch kind has checked: bad ones end the reading, or are left out."""

from collections.abc import Callable, Iterator

from ..core.errors import DataError
from .pieces import Piece, RowError
from .source import Source


class Checked:
    """The pieces of a source after a batch kind has accepted them.

    Attributes:
        n_skipped: rows left out in the last complete pass.
        first_skipped: why the first of them was.
    """

    def __init__(self, source: Source, accept: Callable[[Piece], Piece], skip: bool) -> None:
        self.source, self.accept, self.skip = source, accept, skip
        self.n_skipped = 0
        self.first_skipped = ""

    def pieces(self) -> Iterator[Piece]:
        """Yield the pieces.

        Raises:
            DataError: a row is bad, and bad rows are not left out.
        """
        n_skipped, first = 0, ""
        for piece in self.source.pieces():
            try:
                if piece.problem is not None:
                    raise RowError(piece.problem)
                accepted = self.accept(piece)
            except RowError as error:
                if not self.skip:
                    hint = 'data.bad_rows = "skip" leaves such rows out and counts them.'
                    raise DataError(f"{error} {hint}") from None
                n_skipped, first = n_skipped + 1, first or str(error)
                continue
            yield accepted
        self.n_skipped, self.first_skipped = n_skipped, first
