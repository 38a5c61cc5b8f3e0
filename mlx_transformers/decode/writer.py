"""Text from generated tokens: whole characters, up to an end token or a stop string."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..data.tokenizers.stream import StreamDecoder
from ..data.tokenizers.tokenizer import Tokenizer
from .stats import EndReason
from .stop import StopStrings


@dataclass(frozen=True)
class Generation:
    """A generated text.

    Attributes:
        text: what follows the prompt.
        tokens: number of tokens drawn, an end-of-text token included.
        end_reason: why it ended.
    """

    text: str
    tokens: int
    end_reason: EndReason


class TextWriter:
    """Turns the tokens of one text into characters, up to a stop string.

    Attributes:
        ended: why the text ended; None while it goes on.
        tokens: number of tokens drawn so far.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        stop: str | Sequence[str],
        *,
        begins: bool = False,
        marks: str = "",
    ) -> None:
        """
        Args:
            tokenizer: the tokenizer.
            stop: texts before which to end; one that is a special token is matched as such.
            begins: whether the text is a beginning, not the continuation of a prompt's text.
            marks: a text whose special tokens are written out; others are left out of the text.
        """
        stops = (stop,) if isinstance(stop, str) else tuple(stop)
        special = tokenizer.special_ids
        self._ends = tokenizer.end_ids
        self._marks = {number: text for text, number in special.items() if text in marks}
        self._stop_ids = {special[text] for text in stops if text in special}
        self._decoder = StreamDecoder(tokenizer, begins=begins)
        self._stop = StopStrings(stops)
        self._text: list[str] = []
        self.ended: EndReason | None = None
        self.tokens = 0

    def feed(self, token: int) -> str:
        """Add a token; returns the text that is now certain, empty once the text has ended."""
        if self.ended:
            return ""
        self.tokens += 1
        if token in self._stop_ids or token in self._ends:
            self.ended = "stop string" if token in self._stop_ids else "stop"
            return ""
        if token in self._marks:
            return self._certain(self._decoder.flush() + self._marks[token])
        return self._certain(self._decoder.feed(token))

    def finish(self) -> str:
        """The text held back so far, when no more tokens come."""
        text, rest = self._certain(self._decoder.flush()), self._stop.flush()
        self._text.append(rest)
        return text + rest

    def generation(self, otherwise: EndReason) -> Generation:
        """The whole text; `otherwise` is why it ended if nothing in the text ended it."""
        self.finish()
        return Generation("".join(self._text), self.tokens, self.ended or otherwise)

    def _certain(self, text: str) -> str:
        text = self._stop.push(text)
        if self._stop.found:
            self.ended = "stop string"
        self._text.append(text)
        return text
