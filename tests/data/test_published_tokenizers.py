"""Tokenizers travel: what other libraries read from our files gives the same tokens and text."""

import json
import random
from pathlib import Path

import pytest
from tokenizers import Tokenizer as Library

from mlx_transformers.core.errors import DataError
from mlx_transformers.data.tokenizers import model_proto
from mlx_transformers.data.tokenizers.byte import Byte
from mlx_transformers.data.tokenizers.char import Char
from mlx_transformers.data.tokenizers.controls import with_controls
from mlx_transformers.data.tokenizers.load import load_tokenizer
from mlx_transformers.data.tokenizers.numbers import Numbers
from mlx_transformers.data.tokenizers.published import (
    control_tokens,
    read_tokenizer,
    tokenizer_files,
)
from mlx_transformers.data.tokenizers.sentencepiece import SentencePiece, SentencePieceTokenizer

from .conftest import STDLIB

TEXT = (STDLIB / "argparse.py").read_text()
TEXTS = [
    TEXT[:2000],
    "two  spaces\n\n\nthree lines \té日本語😀",
    "",
    " x",
    "<s></s>".replace("s", "b"),
]
CONFIGS = {
    "char": Char(),
    "byte": Byte(),
    "bpe": SentencePiece(vocab_size=600),
    "unigram": SentencePiece(vocab_size=600, model_type="unigram"),
}


def write(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_library_reads_our_tokenizers(kind: str) -> None:
    ours = CONFIGS[kind].build([TEXT, *TEXTS])
    library = Library.from_buffer(tokenizer_files(ours)["tokenizer.json"])
    for text in TEXTS:
        tokens = library.encode(text, add_special_tokens=False).ids
        if kind == "unigram":  # ties between equally likely cuts may fall either way
            assert ours.decode(tokens) == text
        else:
            assert tokens == ours.encode(text)
        assert library.decode(ours.encode(text)) == text


def test_a_sentencepiece_file_is_read_and_written_as_the_library_does() -> None:
    ours = CONFIGS["bpe"].build([TEXT])
    said = ours.parsed()
    assert (said.model_type, said.dummy_prefix, said.trims) == ("bpe", False, False)
    assert len(said.pieces) == ours.vocab_size
    assert [p.text for p in said.pieces if p.kind == "user"] == ["\n", "\n\n"]
    again = SentencePieceTokenizer(model_proto.serialize(said))
    assert again.parsed().pieces == said.pieces
    assert again.encode(TEXT) == ours.encode(TEXT)
    assert (again.bos_id, again.eos_id) == (ours.bos_id, ours.eos_id)
    with pytest.raises(ValueError, match="not a sentencepiece model"):
        model_proto.parse(random.Random(0).randbytes(100))


def test_what_came_with_a_tokenizer_travels_with_it(tmp_path: Path) -> None:
    library = tokenizer_files(CONFIGS["byte"].build([]))["tokenizer.json"]
    settings = json.dumps({"eos_token": {"content": "</s>"}, "chat_template": "{{ x }}"}).encode()
    files = {
        "tokenizer.json": library,
        "tokenizer_config.json": settings,
        "chat_template.jinja": b"{{ messages }}",
    }
    found = read_tokenizer(write(tmp_path / "in", files))
    assert found is not None
    assert (found.kind, found.eos_id) == ("tokenizer_json", 256)
    found.save(tmp_path / "run")
    assert tokenizer_files(load_tokenizer(tmp_path / "run")) == files


def test_a_sentencepiece_model_comes_back_as_it_came(tmp_path: Path) -> None:
    model = CONFIGS["bpe"].build([TEXT]).serialize()
    found = read_tokenizer(write(tmp_path / "in", {"tokenizer.model": model}))
    assert isinstance(found, SentencePieceTokenizer)
    assert tokenizer_files(found)["tokenizer.model"] == model


def test_word_lists_of_older_models_are_read(tmp_path: Path) -> None:
    vocab = {"a": 0, "b": 1, "ab": 2, "Ġ": 3, "<|endoftext|>": 4}
    merges = b"#version: 0.2\na b\n"
    files = {"vocab.json": json.dumps(vocab).encode(), "merges.txt": merges}
    gpt2 = read_tokenizer(write(tmp_path / "gpt2", files))
    assert gpt2 is not None
    assert (gpt2.encode("aba b"), gpt2.eos_id) == ([2, 0, 3, 1], 4)
    words = b"[PAD]\n[UNK]\n[CLS]\n[SEP]\nhel\n##lo\n!\n"
    bert = read_tokenizer(write(tmp_path / "bert", {"vocab.txt": words}))
    assert bert is not None
    assert (bert.encode("Hello!"), bert.bos_id, bert.eos_id) == ([4, 5, 6], 2, 3)


def test_a_folder_without_a_tokenizer_has_none(tmp_path: Path) -> None:
    assert read_tokenizer(tmp_path) is None


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"tokenizer.json": b"{}"}, "not a tokenizer"),
        ({"tokenizer.json": b"[" * 100_000}, "RecursionError"),
        ({"tokenizer.json": b'{"model": {"vocab": [1, 2]}}'}, "a value of another type"),
        ({"generation_config.json": b"{"}, "generation_config.json is not JSON"),
    ],
)
def test_a_damaged_tokenizer_is_named(
    tmp_path: Path, files: dict[str, bytes], message: str
) -> None:
    with pytest.raises(DataError, match=f"can't be read: .*{message}"):
        read_tokenizer(write(tmp_path / "x", files))


@pytest.mark.parametrize("kind", CONFIGS)
def test_control_tokens_travel_too(kind: str) -> None:
    inner = CONFIGS[kind].build([TEXT])
    ours = with_controls(inner, ["mask", "cls"])
    library = Library.from_buffer(tokenizer_files(ours)["tokenizer.json"])
    assert library.token_to_id("<|mask|>") == ours.control("mask") == inner.vocab_size
    assert library.encode("a<|mask|>b", add_special_tokens=False).ids[1] == inner.vocab_size
    assert library.get_vocab_size() == ours.vocab_size


def test_numbers_are_tokens(tmp_path: Path) -> None:
    numbers = Numbers(vocab_size=20).build([])
    assert numbers.encode(" 3 14\n15") == [3, 14, 15]
    assert numbers.decode([3, 14]) == "3 14 "
    assert tokenizer_files(numbers) == {}
    numbers.save(tmp_path)
    assert load_tokenizer(tmp_path).vocab_size == 20
    for word in ("20", "x", "-1", "²"):
        with pytest.raises(DataError, match=word):
            numbers.encode(f"1 {word}")


def test_a_config_names_the_control_tokens_that_there_are() -> None:
    plain = SentencePiece(vocab_size=600).build([TEXT])
    assert control_tokens(plain) == {"eos_token_id": plain.eos_id}
    seen = with_controls(plain, ("pad", "end", "mask"))
    assert control_tokens(seen, "pad") == {
        "eos_token_id": seen.control("end"),
        "mask_token_id": seen.control("mask"),
        **dict.fromkeys(("pad_token_id", "decoder_start_token_id"), seen.control("pad")),
    }
