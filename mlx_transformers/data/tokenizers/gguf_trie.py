"""Characters and bytes as tokens of a GGUF file: llama.cpp's longest match, its kind "rwkv".

It is the one kind that has no end token unless a file names one, and no rule of its own for spaces.
Spelling of tokens: llama.cpp, `src/llama-vocab.cpp` (`llama_unescape_rwkv_token`).
"""

from collections.abc import Mapping
from typing import Any

from ...core.errors import DataError
from .byte import ByteTokenizer
from .char import CharTokenizer
from .model_proto import KINDS

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


def read_trie(metadata: Mapping[str, Any]) -> CharTokenizer | ByteTokenizer:
    """Return the tokenizer of characters or bytes of a file.

    Raises:
        DataError: its tokens are others.
    """
    kinds = metadata["tokenizer.ggml.token_type"]
    tokens = [
        token
        for token, kind in zip(metadata["tokenizer.ggml.tokens"], kinds, strict=True)
        if kind != UNUSED
    ]
    if tokens == write_trie(ByteTokenizer())["tokens"]:
        return ByteTokenizer()
    characters = sorted({_character(token) for token in tokens})
    found = CharTokenizer([character for character in characters if len(character) == 1])
    if write_trie(found)["tokens"] != tokens:
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
