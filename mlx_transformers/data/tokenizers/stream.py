"""Text from tokens as they are generated, never half a character."""

import codecs

from .tokenizer import Tokenizer

REPLACEMENT = "\ufffd"


class StreamDecoder:
    """Feed tokens one by one, get the text that is certain; `flush` gives the rest.

    Bytes that can't become a character come out as U+FFFD. A tokenizer whose tokens have no
    bytes of their own is asked for the text of its last tokens instead, and text that ends in
    U+FFFD waits, since the next token may complete it.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._tokens: list[int] = []
        self._shown = 0
        """How many of `_tokens` are in the text given so far."""

    def feed(self, token: int) -> str:
        """The text that `token` makes certain, perhaps none."""
        part = self._tokenizer.token_bytes(int(token))
        if part is not None:
            return self._utf8.decode(part)
        self._tokens.append(int(token))
        return self._new(wait=True)

    def flush(self) -> str:
        """What was held back, at the end."""
        return self._utf8.decode(b"", final=True) + (self._new(wait=False) if self._tokens else "")

    def _new(self, wait: bool) -> str:
        before = self._tokenizer.decode(self._tokens[: self._shown])
        text = self._tokenizer.decode(self._tokens)
        if len(text) <= len(before) or (wait and text.endswith(REPLACEMENT)):
            return ""
        # The last tokens shown stay as context: a decoder may treat the first one differently.
        self._tokens = self._tokens[self._shown :]
        self._shown = len(self._tokens)
        return text[len(before) :]
