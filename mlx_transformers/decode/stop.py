"""Stop strings: texts that end a generation and are not part of it."""

from collections.abc import Sequence

from ..core.errors import RunError


class StopStrings:
    """Passes pieces of text on, up to the first stop string, which may span several pieces.

    Text that may be the beginning of a stop string is held back until that is decided.

    Attributes:
        found: whether a stop string has occurred; no text is passed on after it.
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
        """Add a piece; returns the text that certainly precedes any stop string."""
        if self.found:
            return ""
        text = self._held + piece
        ends = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        if ends:
            self.found, self._held = True, ""
            return text[: min(ends)[1]]
        end = len(text) - max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[end:]
        return text[:end]

    def flush(self) -> str:
        """The text held back, when no more text comes."""
        text, self._held = self._held, ""
        return text


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
