"""Incremental decoding of generated tokens, never half a character."""

import codecs

from .tokenizer import Tokenizer

REPLACEMENT = "\ufffd"


class StreamDecoder:
    """Decodes tokens one by one and returns the text that is final; `flush` returns the rest.

    The tokens continue a text, so that the space before a word stays also in front of the first
    one; with `begins` they begin one. Invalid UTF-8 becomes U+FFFD. If tokens have no bytes of
    their own, the last tokens are decoded together, and text that ends in U+FFFD is held back,
    since the next token may complete it.
    """

    def __init__(self, tokenizer: Tokenizer, *, begins: bool = False) -> None:
        self._tokenizer = tokenizer
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._begins = begins
        self._tokens: list[int] = [] if begins else list(tokenizer.context)
        self._shown = len(self._tokens)
        """How many of `_tokens` are in the text returned so far."""

    def feed(self, token: int) -> str:
        """Return the text that `token` completes, perhaps none."""
        part = self._tokenizer.token_bytes(int(token))
        if part is not None:
            if self._begins and part:
                self._begins = False
                # As in the text of the token alone: without a space that the tokenizer adds.
                alone = self._tokenizer.decode([token]).encode()
                part = part[1:] if part.startswith(b" ") and part[1:] == alone else part
            return self._utf8.decode(part)
        self._tokens.append(int(token))
        return self._new(wait=True)

    def flush(self) -> str:
        """Return the text held back, at the end."""
        return self._utf8.decode(b"", final=True) + (self._new(wait=False) if self._tokens else "")

    def _new(self, wait: bool) -> str:
        before = self._tokenizer.decode(self._tokens[: self._shown])
        text = self._tokenizer.decode(self._tokens)
        if len(text) <= len(before) or (wait and text.endswith(REPLACEMENT)):
            return ""
        # Some decoders treat the first token differently, so the last ones stay as context.
        self._tokens = self._tokens[self._shown :]
        self._shown = len(self._tokens)
        return text[len(before) :]
