"""Tokenizers of GGUF files as llama.cpp reads them."""

import json
from dataclasses import replace
from typing import Any

import pytest

from mlx_transformers.core.errors import DataError
from mlx_transformers.data.tokenizers.byte import ByteTokenizer
from mlx_transformers.data.tokenizers.byte_level_bpe import ByteLevelBpe
from mlx_transformers.data.tokenizers.char import CharTokenizer
from mlx_transformers.data.tokenizers.controls import with_controls
from mlx_transformers.data.tokenizers.gguf import (
    KEY,
    MODEL_FILE,
    read_metadata,
    unlike,
    write_metadata,
)
from mlx_transformers.data.tokenizers.hf import HfTokenizer
from mlx_transformers.data.tokenizers.json_form import json_form
from mlx_transformers.data.tokenizers.model_proto import Model, Piece, serialize
from mlx_transformers.data.tokenizers.sentencepiece import SentencePiece, SentencePieceTokenizer

TEXT = "to be or not to be,\n\nthat is  the question: é 日本 12345\n" * 20


def byte_pairs(**changes: Any) -> HfTokenizer:
    """Byte-level BPE with other parts of its tokenizer.json."""
    form = json.loads(ByteLevelBpe(vocab_size=300).build([TEXT]).serialize())
    model = changes.pop("model", {})
    return HfTokenizer(json.dumps({**form, **changes, "model": form["model"] | model}).encode())


@pytest.mark.parametrize("kind", ["char", "byte"])
def test_characters_and_bytes_are_matched_longest_first(kind: str) -> None:
    ours = CharTokenizer.train([TEXT + "\\▁"]) if kind == "char" else ByteTokenizer()
    found = write_metadata(ours, ours.vocab_size + 2)
    assert found[KEY + "model"] == "rwkv"  # the others have an end token where the file has none
    assert (KEY + "eos_token_id" in found) is (kind == "byte")
    spelled = [token.encode().decode("unicode_escape") for token in found[KEY + "tokens"]]
    assert spelled[: ours.vocab_size - 1] == [
        ours.token_bytes(i).decode("latin-1") for i in range(ours.vocab_size - 1)
    ]
    again = read_metadata(found)
    assert type(again) is type(ours)
    assert again.encode(TEXT + "▁\\") == ours.encode(TEXT + "▁\\")


def test_a_trie_of_longer_tokens_is_refused() -> None:
    tokens = {KEY + "model": "rwkv", KEY + "tokens": ["a", "ab"], KEY + "token_type": [1, 1]}
    with pytest.raises(DataError, match="RWKV tokenizer"):
        read_metadata(tokens)


def test_two_tokens_never_have_one_text() -> None:
    ours = byte_pairs(added_tokens=[])
    form = json.loads(ours.serialize())
    form["model"]["vocab"]["[PAD302]"] = ours.vocab_size
    found = write_metadata(HfTokenizer(json.dumps(form).encode()), ours.vocab_size + 9)
    assert len(set(found[KEY + "tokens"])) == ours.vocab_size + 9


def test_tokens_of_roles_follow_those_of_the_text() -> None:
    ours = with_controls(ByteTokenizer(), ("pad", "image"))
    found = write_metadata(ours, 260)
    assert found[KEY + "tokens"][257:] == ["<|pad|>", "<|image|>", "[PAD259]"]
    assert found[KEY + "token_type"][256:] == [3, 3, 3, 5]


@pytest.mark.parametrize("kind", ["char", "byte"])
def test_tokens_of_roles_are_read_back(kind: str) -> None:
    plain = CharTokenizer.train([TEXT]) if kind == "char" else ByteTokenizer()
    ours = with_controls(plain, ("pad", "image"))
    found = write_metadata(ours, ours.vocab_size + 2)
    again = read_metadata(found)
    assert again is not None
    assert again.fingerprint() == ours.fingerprint()
    assert again.encode(TEXT) == ours.encode(TEXT)
    found[KEY + "tokens"][plain.vocab_size] = "<|wormhole|>"
    with pytest.raises(DataError, match=f"wormhole.* behind {plain.vocab_size}"):
        read_metadata(found)


def test_the_begin_token_is_put_in_front_as_in_the_published_tokenizer() -> None:
    model = SentencePiece(vocab_size=300).build([TEXT]).parsed()
    pieces = [Piece("<unk>", 0.0, "unknown"), Piece("<eos>", 0.0, "control")]
    pieces += [Piece("<bos>", 0.0, "control"), *model.pieces[2:]]
    content = serialize(replace(model, pieces=pieces, begin="<bos>", end="<eos>"))
    for begins in (True, False):
        ours = SentencePieceTokenizer(content, begins_with_bos=begins, ends=(5,))
        found = write_metadata(ours, ours.vocab_size)
        assert found[KEY + "add_bos_token"] is begins
        assert (found[KEY + "bos_token_id"], found[KEY + "eos_token_id"]) == (2, 1)
        assert found[KEY + "eot_token_id"] == 5
        again = read_metadata(found)
        assert again is not None
        assert (again.bos_id, again.eos_id, again.ends) == (2, 1, (5,))
        assert again.prefix == ((2,) if begins else ())
        assert again.encode(TEXT) == ours.encode(TEXT)


def test_a_file_of_llama_that_does_not_say_begins_with_its_begin_token() -> None:
    ours = byte_pairs(model={"ignore_merges": True}, pre_tokenizer=_three_digits())
    found = write_metadata(ours, ours.vocab_size)
    assert found[KEY + "pre"] == "llama-bpe"
    del found[KEY + "add_bos_token"]
    again = read_metadata(found)
    assert again is not None
    assert again.prefix == (again.bos_id,)


def _three_digits() -> dict[str, Any]:
    pattern = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated"}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
    parts = [split | {"invert": False}, byte_level | {"trim_offsets": False}]
    return {"type": "Sequence", "pretokenizers": parts}


def test_words_that_are_tokens_are_cut_by_another_name() -> None:
    """LLaMA 3's cutting takes a word that is a token before all merges; the file can't say it."""
    ours = byte_pairs(pre_tokenizer=_three_digits())
    assert write_metadata(ours, ours.vocab_size)[KEY + "pre"] == "dbrx"
    with pytest.raises(DataError, match="cutting of words by one of"):
        write_metadata(byte_pairs(model={"ignore_merges": True}), 300)


def test_flags_without_effect_on_tokens_are_passed_over() -> None:
    published = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False}
    ours = byte_pairs(pre_tokenizer=published)
    assert write_metadata(ours, 300)[KEY + "pre"] == "gpt-2"
    with pytest.raises(DataError, match="cutting of words"):
        write_metadata(byte_pairs(pre_tokenizer=published | {"add_prefix_space": True}), 300)


def test_what_llama_cpp_leaves_out_is_told() -> None:
    assert not unlike(byte_pairs())
    assert "does not compose characters (NFC)" in unlike(byte_pairs(normalizer={"type": "NFC"}))
    assert write_metadata(byte_pairs(normalizer={"type": "NFC"}), 300)[KEY + "pre"] == "gpt-2"
    with pytest.raises(DataError, match="has no form"):
        write_metadata(byte_pairs(normalizer={"type": "Lowercase"}), 300)


def test_a_sentencepiece_model_beside_a_tokenizer_json_is_taken() -> None:
    plain = SentencePiece(vocab_size=300).build([TEXT])
    ours = HfTokenizer(json.dumps(json_form(plain)).encode())
    with pytest.raises(DataError, match="cutting of words"):
        write_metadata(ours, 300)
    ours.companions = {MODEL_FILE: plain.serialize()}
    tokens = KEY + "tokens"
    assert write_metadata(ours, 300)[tokens] == write_metadata(plain, 300)[tokens]
    other = SentencePiece(vocab_size=299).build([TEXT])
    ours.companions = {MODEL_FILE: other.serialize()[::-1]}
    with pytest.raises(DataError, match="cutting of words"):
        write_metadata(ours, 300)


def test_spaces_of_a_user_s_piece_are_spaces_in_the_file() -> None:
    """llama.cpp looks for them before it marks the spaces of a text."""
    pieces = [Piece("<unk>", 0.0, "unknown"), Piece("▁▁", 0.0, "user"), Piece("▁a", -1.0, "normal")]
    pieces += [Piece("▁", -2.0, "normal"), Piece("a", -3.0, "normal")]
    model = Model(pieces, "bpe", dummy_prefix=False, trims=False)
    ours = SentencePieceTokenizer(serialize(model))
    found = write_metadata(ours, 5)
    assert found[KEY + "tokens"] == ["<unk>", "  ", "▁a", "▁", "a"]
    again = read_metadata(found)
    assert again is not None
    assert again.encode("a  a a") == ours.encode("a  a a") == [4, 1, 4, 2]
