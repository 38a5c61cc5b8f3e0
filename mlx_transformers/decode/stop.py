"""Stop strings: text that ends a generation and is not part of it."""

from collections.abc import Sequence

from ..core.errors import RunError


class StopStrings:
    """Passes text on, up to the first stop string, however the text was cut into pieces.

    Text that may be the beginning of a stop string is held back until that is decided.

    Attributes:
        found: whether a stop string occurred; nothing comes after it.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        """
        Raises:
            RunError: a stop string is empty, so that every text would contain it.
        """
        if any(not stop for stop in stops):
            raise RunError("A stop string is empty. Leave it out, or name the text to end at.")
        self._stops = tuple(stops)
        self._held = ""
        self.found = False

    def push(self, piece: str) -> str:
        """The text that is certain to be output, now that `piece` has arrived."""
        if self.found:
            return ""
        text = self._held + piece
        ends = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        if ends:
            self.found, self._held = True, ""
            return text[: min(ends)[1]]
        kept = len(text) - max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[kept:]
        return text[:kept]

    def flush(self) -> str:
        """What was held back, when no more text can come."""
        rest, self._held = self._held, ""
        return rest


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
