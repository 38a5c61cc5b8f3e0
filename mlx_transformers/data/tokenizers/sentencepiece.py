"""Subwords by the sentencepiece library (Kudo and Richardson 2018): BPE and unigram."""

import io
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import sentencepiece as spm
from pydantic import Field

from ...core.errors import DataError, reason
from ...core.paths import expanded
from .model_proto import Model, parse, without_prefix
from .sample import sample
from .tokenizer import Tokenizer, TokenizerKind

SPACE = "\u2581"
"""The library's symbol for a space; this character in a text is encoded in bytes."""

NEWLINES = ["\n", "\n\n"]
"""Line ends are tokens of their own, so that no subword spans two lines and a prompt that stops
at a line end is cut into the same tokens as the same text in training."""


class SentencePieceTokenizer(Tokenizer):
    """A sentencepiece model. Lossless when trained here: no normalization, no prefix, spaces and
    line ends kept, bytes for characters it has not seen."""

    kind = "sentencepiece"
    payload = "sentencepiece.model"
    package = "sentencepiece"

    def __init__(
        self,
        model: bytes,
        *,
        published: bool = False,
        unknown_from: int | None = None,
        ends: Iterable[int] = (),
        begins_with_bos: bool = False,
        legacy: bool = True,
    ) -> None:
        """
        Args:
            model: the content of a `.model` file.
            published: whether it was published with a model, so that characters which it lacks
                become its unknown token; otherwise they are an error.
            unknown_from: the first piece that the published vocabulary lacks; it and those behind
                it become the unknown token.
            ends: further ids that end a text.
            begins_with_bos: whether a text is preceded by the begin token.
            legacy: whether the space that the model puts in front of a text is put behind each
                control token in it too, as LlamaTokenizer did before `legacy = false`.
        """
        self._model, self.legacy = model, legacy
        self.published, self.unknown_from = published, unknown_from
        self._processor = spm.SentencePieceProcessor()
        try:
            self._processor.LoadFromSerializedProto(model)
        except RuntimeError as error:
            raise ValueError("not a sentencepiece model") from error
        self.vocab_size = self._processor.vocab_size()
        self.bos_id = _id_or_none(self._processor.bos_id())
        self.eos_id = _id_or_none(self._processor.eos_id())
        if unknown_from is not None:
            self.vocab_size = unknown_from
        self.ends, self.begins_with_bos = tuple(ends), begins_with_bos
        if begins_with_bos and self.bos_id is not None:
            self.prefix = (self.bos_id,)
        self._prefix = self._processor.encode("a", out_type=str)[:1] in ([SPACE], [SPACE + "a"])
        byte = self._processor.piece_to_id("<0xE2>")
        self._bytes = self._processor.is_byte(byte)

    @classmethod
    def train(cls, texts: Iterable[str], config: "SentencePiece") -> "SentencePieceTokenizer":
        """A model of `config.vocab_size` tokens, fewer when the text is too short for them.

        The same text gives the same model: one thread, a seeded sample.

        Raises:
            DataError: no text, or a vocabulary too small for its characters.
        """
        chunks = sample(texts, config.sample_bytes)
        if not any(chunk.strip() for chunk in chunks):
            raise DataError("The text has no words to train a sentencepiece tokenizer on.")
        model = io.BytesIO()
        try:
            spm.SentencePieceTrainer.train(
                sentence_iterator=_lines(chunks), model_writer=model, **_options(config)
            )
        except RuntimeError as error:
            # its own advice names an option of its command line
            reason = str(error).rsplit("] ", 1)[-1].partition(" Increase ")[0]
            raise DataError(
                f"No sentencepiece tokenizer of {config.vocab_size} tokens can be trained: "
                f"{reason} Try a larger data.tokenizer.vocab_size (byte fallback alone takes 256), "
                "or another text."
            ) from None
        return cls(model.getvalue())

    def encode(self, text: str) -> list[int]:
        if SPACE not in text or self.published or self._prefix or not self._bytes:
            return self._known(self._processor.encode(text), text)
        first, *rest = text.split(SPACE)
        tokens: list[int] = self._processor.encode(first)
        for part in rest:
            tokens += [self._processor.piece_to_id(f"<0x{byte:02X}>") for byte in SPACE.encode()]
            tokens += self._processor.encode(part)
        return tokens

    @cached_property
    def inside(self) -> Tokenizer:
        if self.legacy or not self._prefix:
            return self
        model, last = without_prefix(self._model), self.unknown_from
        return SentencePieceTokenizer(model, published=self.published, unknown_from=last)

    @cached_property
    def special_ids(self) -> Mapping[str, int]:
        processor = self._processor
        control = (
            i
            for i in range(self.vocab_size)
            if processor.is_control(i) or (self.published and processor.is_unknown(i))
        )
        return {processor.id_to_piece(i): i for i in control}

    def control_id(self, role: str, usual: tuple[str, ...]) -> int | None:
        if not self.published or role in ("start", "end"):
            return super().control_id(role, usual)
        return next((self.special_ids[name] for name in usual if name in self.special_ids), None)

    def _known(self, tokens: list[int], text: str) -> list[int]:
        if self.unknown_from is not None:
            unknown = self._processor.unk_id()
            return [token if token < self.unknown_from else unknown for token in tokens]
        if self.published:
            return tokens
        if not self._bytes and self._processor.unk_id() in tokens:
            pieces = [
                p
                for p in self._processor.encode_as_pieces(text)
                if self._processor.piece_to_id(p) == self._processor.unk_id()
            ]
            raise DataError(
                f"The text has {pieces[0]!r}, which this tokenizer can't write. Train it with "
                "data.tokenizer.byte_fallback=true."
            )
        return tokens

    @cached_property
    def _table(self) -> list[bytes]:
        """The bytes of every token."""
        return [self._bytes_of(token) for token in range(self.vocab_size)]

    def _bytes_of(self, token: int) -> bytes:
        piece = self._processor.id_to_piece(token)
        if self._processor.is_control(token):
            return b""
        if self._processor.is_unknown(token):
            return "\ufffd".encode()
        if self._processor.is_byte(token):
            return bytes([int(piece[3:5], 16)])
        return piece.replace(SPACE, " ").encode()

    def token_bytes(self, token: int) -> bytes:
        return self._table[token]

    def decode(self, tokens: Iterable[int]) -> str:
        table = self._table
        text = b"".join([table[int(token)] for token in tokens]).decode("utf-8", "replace")
        return text.removeprefix(" ") if self._prefix else text

    def token_of(self, text: str) -> int | None:
        """The id of a piece; None if there is none of that text."""
        number = self._processor.piece_to_id(text)
        return number if self._processor.id_to_piece(number) == text else None

    def parsed(self) -> Model:
        """The parsed content of its file, for other formats."""
        return parse(self._model)

    def serialize(self) -> bytes:
        return self._model

    def description(self) -> dict[str, Any]:
        settings: dict[str, Any] = {}
        if self.published:
            settings = {"published": True, "begins_with_bos": self.begins_with_bos}
        if not self.legacy:
            settings["legacy"] = False
        if self.unknown_from is not None:
            settings["unknown_from"] = self.unknown_from
        return super().description() | settings

    @classmethod
    def read(cls, content: bytes) -> "SentencePieceTokenizer":
        return cls(content)


class SentencePiece(TokenizerKind):
    """Subwords: byte-pair encoding (Sennrich et al. 2016) or a unigram language model (Kudo
    2018), trained on the text when it is prepared, or read from a `.model` file."""

    kind: Literal["sentencepiece"] = "sentencepiece"
    trained_on: ClassVar[Literal["nothing", "train", "all"]] = "train"

    vocab_size: int = Field(default=8192, ge=2)
    """Number of tokens, the 256 bytes included. Not used with `path`."""

    model_type: Literal["bpe", "unigram"] = "bpe"
    """How subwords are chosen. Not used with `path`."""

    byte_fallback: bool = True
    """Write characters that the vocabulary lacks as bytes. Without it, they are an error. Not
    used with `path`."""

    sample_bytes: int = Field(default=10_000_000, ge=1000)
    """How much text is used for training, drawn evenly from all of it. Not used with `path`."""

    path: str | None = None
    """An existing sentencepiece `.model` file to use as it is."""

    @property
    def known_vocab_size(self) -> int:
        return self.vocab_size

    def build(self, texts: Iterable[str]) -> SentencePieceTokenizer:
        """The tokenizer, read from `path` or trained on `texts`.

        Raises:
            DataError: `path` can't be read, or training is impossible.
        """
        if (file := self.file()) is None:
            return SentencePieceTokenizer.train(texts, self)
        try:
            return SentencePieceTokenizer(file.read_bytes())
        except (OSError, ValueError) as error:
            raise DataError(
                f"data.tokenizer.path: {file} can't be read ({reason(error)}). It has to be a "
                ".model file of sentencepiece; without data.tokenizer.path one is trained on the "
                "text."
            ) from error

    def file(self) -> Path | None:
        return None if self.path is None else expanded(self.path)


def _options(config: SentencePiece) -> dict[str, Any]:
    return {
        "vocab_size": config.vocab_size,
        "model_type": config.model_type,
        "byte_fallback": config.byte_fallback,
        "character_coverage": 0.9999 if config.byte_fallback else 1.0,
        "normalization_rule_name": "identity",
        "add_dummy_prefix": False,
        "remove_extra_whitespaces": False,
        "allow_whitespace_only_pieces": True,
        "user_defined_symbols": NEWLINES,
        "unk_id": 0,
        "eos_id": 1,
        "bos_id": -1,
        "pad_id": -1,
        "hard_vocab_limit": False,
        "max_sentence_length": 1 << 20,
        "num_threads": 1,
        "minloglevel": 3,
    }


def _lines(chunks: list[str]) -> Iterator[str]:
    """Lines that the trainer takes: short enough, without the one character it reserves."""
    for chunk in chunks:
        for line in chunk.replace(SPACE, " ").split("\n"):
            for start in range(0, len(line), 1 << 16):
                yield line[start : start + (1 << 16)]


def _id_or_none(token: int) -> int | None:
    return None if token < 0 else token
