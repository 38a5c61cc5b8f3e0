"""Characters and bytes as tokens of a GGUF file: llama.cpp's longest match, its kind "rwkv".

It is the one kind that has no end token unless a file names one, and no rule of its own for spaces.
Spelling of tokens: llama.cpp, `src/llama-vocab.cpp` (`llama_unescape_rwkv_token`).
"""

from collections.abc import Mapping
from itertools import takewhile
from typing import Any

from ...core.errors import DataError
from .byte import ByteTokenizer
from .char import CharTokenizer
from .controls import USUAL, with_controls
from .model_proto import KINDS
from .tokenizer import Tokenizer

NORMAL, CONTROL, UNUSED = (KINDS.index(kind) + 1 for kind in ("normal", "control", "unused"))
END = r"\xff</s>"
"""The end token of bytes; no text has the byte that it begins with."""


def write_trie(tokenizer: CharTokenizer | ByteTokenizer) -> dict[str, Any]:
    """Return the metadata of a tokenizer, without the part that all keys begin with."""
    if isinstance(tokenizer, CharTokenizer):
        tokens = [_escaped(character.encode()) for character in tokenizer.characters]
    else:
        tokens = [*(_escaped(bytes([byte])) for byte in range(256)), END]
    kinds = [CONTROL if token == END else NORMAL for token in tokens]
    return {"model": "rwkv", "tokens": tokens, "token_type": kinds}


def read_trie(metadata: Mapping[str, Any]) -> Tokenizer:
    """Return the tokenizer of characters or bytes of a file, with the control tokens behind them.

    Raises:
        DataError: its tokens are others.
    """
    tokens: list[str] = metadata["tokenizer.ggml.tokens"]
    kinds: list[int] = metadata["tokenizer.ggml.token_type"]
    size = max((i + 1 for i, kind in enumerate(kinds) if kind != UNUSED), default=0)
    text = _text(tokens, kinds)
    count = text.vocab_size
    roles = [token[2:-2] for token in tokens[count:size]]
    named = [f"<|{role}|>" for role in roles if role in USUAL]
    if {*kinds[count:size]} <= {CONTROL} and named == tokens[count:size]:
        found = with_controls(text, roles)
        if found.vocab_size == size:
            return found
    raise DataError(
        "The file has an RWKV tokenizer (tokenizer.ggml.model = 'rwkv') with the token "
        f"{tokens[min(count, size - 1)]!r} behind {count}. Of these, bytes and sorted characters "
        "are read, and behind them the control tokens of roles, such as <|pad|>."
    )


def _text(tokens: list[str], kinds: list[int]) -> CharTokenizer | ByteTokenizer:
    """Return the tokenizer of the text's own tokens, which come first.

    Raises:
        DataError: they are neither bytes nor sorted characters.
    """
    octets = write_trie(ByteTokenizer())["tokens"]
    if tokens[: len(octets)] == octets:
        return ByteTokenizer()
    own = list(takewhile(lambda pair: pair[1] == NORMAL, zip(tokens, kinds, strict=True)))
    characters = sorted({_character(token) for token, _ in own})
    found = CharTokenizer([character for character in characters if len(character) == 1])
    if write_trie(found)["tokens"] != [token for token, _ in own]:
        raise DataError(
            "The file has an RWKV tokenizer (tokenizer.ggml.model = 'rwkv') of longer tokens. Of "
            "these, bytes and sorted characters are read."
        )
    return found


def _escaped(content: bytes) -> str:
    """Return a token as escaped text, every byte by its number but for letters and digits."""
    return "".join(chr(b) if chr(b).isalnum() and b < 128 else f"\\x{b:02x}" for b in content)


def _character(token: str) -> str:
    """Return the character of a token, or its text where it is none."""
    try:
        return token.encode("ascii").decode("unicode_escape").encode("latin-1").decode()
    except UnicodeError:
        return token
