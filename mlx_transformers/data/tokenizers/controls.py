"""Control tokens, such as [MASK] and sentinels: objectives insert them, text has none."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ...core.errors import DataError, unknown
from .tokenizer import Tokenizer

USUAL: dict[str, tuple[str, ...]] = {
    "start": ("<s>", "[CLS]", "<bos>", "<|endoftext|>"),
    "end": ("</s>", "[SEP]", "<eos>", "<|endoftext|>"),
    "cls": ("[CLS]", "<cls>", "<s>"),
    "sep": ("[SEP]", "<sep>", "</s>"),
    "mask": ("[MASK]", "<mask>"),
    "pad": ("[PAD]", "<pad>"),
    "image": ("<image>", "<|image|>"),
    **{f"sentinel_{n}": (f"<extra_id_{n}>",) for n in range(100)},
    # Picture tokens have no names, so that they follow each other behind the vocabulary.
    **{f"code_{n}": () for n in range(1 << 13)},
}
"""Every role of a control token, and the names that published vocabularies give it."""


def with_controls(tokenizer: Tokenizer, roles: Iterable[str]) -> Tokenizer:
    """The tokenizer with a token for each of `roles`: its own where it has one, else a new one
    after the last of its vocabulary.

    Raises:
        DataError: a role that isn't known.
    """
    if isinstance(tokenizer, Controlled):
        # Those that it has come first, so that they stay the numbers that they were.
        roles, tokenizer = (*tokenizer.roles, *roles), tokenizer.inner
    roles = tuple(dict.fromkeys(roles))
    for role in roles:
        if role not in USUAL:
            raise DataError(unknown("control token", role, USUAL))
    return Controlled(tokenizer, roles) if roles else tokenizer


class Controlled(Tokenizer):
    """A tokenizer and control tokens by role.

    Attributes:
        inner: the tokenizer of the text.
        controls: the token of each role.
    """

    def __init__(self, inner: Tokenizer, roles: tuple[str, ...]) -> None:
        self.inner, self.roles = inner, roles
        self.kind, self.payload, self.package = inner.kind, inner.payload, inner.package
        self.bos_id, self.eos_id = inner.bos_id, inner.eos_id
        self.companions, self.prefix = inner.companions, inner.prefix
        controls: dict[str, int] = {}
        self.vocab_size = inner.vocab_size
        for role in roles:
            control = inner.control_id(role, USUAL[role])
            if control is None:
                control, self.vocab_size = self.vocab_size, self.vocab_size + 1
            controls[role] = control
        self.controls = controls
        self.ends = (*inner.ends, *(token for role, token in controls.items() if role == "end"))

    @property
    def text_vocab_size(self) -> int:
        return self.inner.text_vocab_size

    def control(self, role: str) -> int:
        return self.controls[role] if role in self.controls else self.inner.control(role)

    @property
    def n_writable(self) -> int:
        first = self.controls.get("code_0")
        if first is None:
            return self.vocab_size
        # The token that begins a picture stands in front, unless the text's vocabulary has its own.
        return first - (self.controls.get("image") == first - 1)

    @property
    def text_id_limit(self) -> int:
        return max((self.inner.text_id_limit, *(n + 1 for n in self.controls.values())))

    @property
    def context(self) -> list[int]:
        return self.inner.context

    @property
    def special_ids(self) -> Mapping[str, int]:
        return self.inner.special_ids

    def encode(self, text: str) -> list[int]:
        return self.inner.encode(text)

    def encode_special(self, text: str) -> list[int]:
        return self.inner.encode_special(text)

    def encode_special_with_ends(self, text: str) -> tuple[list[int], np.ndarray]:
        return self.inner.encode_special_with_ends(text)

    def encode_array(self, text: str) -> np.ndarray:
        return self.inner.encode_array(text)

    def encode_with_ends(self, text: str) -> tuple[list[int], np.ndarray]:
        return self.inner.encode_with_ends(text)

    def token_bytes(self, token: int) -> bytes | None:
        return self.inner.token_bytes(token) if token < self.inner.vocab_size else b""

    def surface(self, token: int) -> str:
        return self.inner.surface(token) if token < self.inner.vocab_size else ""

    def decode(self, tokens: Iterable[int]) -> str:
        return self.inner.decode([t for t in tokens if int(t) < self.inner.vocab_size])

    def serialize(self) -> bytes:
        return self.inner.serialize()

    @classmethod
    def read(cls, content: bytes) -> "Controlled":
        raise ValueError("control tokens are kept in a manifest, not in a file of their own")

    def fingerprint(self) -> str:
        described = f"{self.inner.fingerprint()}\n{self.controls}"
        return hashlib.sha256(described.encode()).hexdigest()

    def description(self) -> dict[str, Any]:
        description = self.inner.description()
        return description | {"vocab_size": self.vocab_size, "controls": self.controls}


def frame(tokenizer: Tokenizer) -> tuple[int, int] | None:
    """Return the ids of CLS and SEP, or None for a tokenizer without them."""
    if isinstance(tokenizer, Controlled):
        if "cls" in tokenizer.controls and "sep" in tokenizer.controls:
            return tokenizer.controls["cls"], tokenizer.controls["sep"]
        tokenizer = tokenizer.inner
    cls, sep = (tokenizer.control_id(role, USUAL[role]) for role in ("cls", "sep"))
    return None if cls is None or sep is None else (cls, sep)
