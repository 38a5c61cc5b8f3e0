"""Options of a published class change its tokens; expected ids are those of transformers 5.24."""

import json
from pathlib import Path
from typing import Any

import pytest

from mlx_transformers.core.errors import DataError
from mlx_transformers.data.tokenizers.load import load_tokenizer
from mlx_transformers.data.tokenizers.model_proto import Model, Piece, serialize
from mlx_transformers.data.tokenizers.published import read_tokenizer
from mlx_transformers.data.tokenizers.tokenizer import Tokenizer

SPACE = "\u2581"
CONTROL = [Piece("<unk>", 0.0, "unknown"), *(Piece(t, 0.0, "control") for t in ("<s>", "</s>"))]
LLAMA = [SPACE, "d", "a", "y", "da", "day", f"{SPACE}day"]
MERGES = "#version: 0.2\nd a\nda y\n\u0120 day\n"


def read(path: Path, settings: dict[str, Any], **files: bytes) -> Tokenizer:
    path.mkdir(exist_ok=True)
    for name, content in files.items():
        (path / name.replace("__", ".")).write_bytes(content)
    (path / "tokenizer_config.json").write_text(json.dumps(settings))
    found = read_tokenizer(path)
    assert found is not None
    found.save(path / "kept")
    assert load_tokenizer(path / "kept").encode_special("</s>day") == found.encode_special(
        "</s>day"
    )
    return found


def llama(path: Path, **settings: Any) -> Tokenizer:
    pieces = [*CONTROL, *(Piece(text, -float(i), "normal") for i, text in enumerate(LLAMA))]
    model = serialize(Model(pieces, model_type="bpe", trims=False))
    return read(path, {"tokenizer_class": "LlamaTokenizer", **settings}, tokenizer__model=model)


@pytest.mark.parametrize("added", [{}, {"added_tokens_decoder": {"10": {"content": "[X]"}}}])
def test_llama_puts_a_space_behind_control_tokens_only_where_it_is_legacy(
    tmp_path: Path, added: dict[str, Any]
) -> None:
    assert llama(tmp_path / "a", legacy=True, **added).encode_special("day</s>day") == [9, 2, 9]
    new = llama(tmp_path / "b", legacy=False, **added)
    assert new.encode_special("day</s>day") == [9, 2, 8]
    assert new.encode_special_with_ends("day</s>day")[1].tolist() == [3, 7, 10]
    assert new.encode("day") == new.encode(" day") == [9]
    legacy = llama(tmp_path / "c", legacy=True, **added)
    assert legacy.encode_special("</s> day") == [2, 9]
    code = llama(tmp_path / "d", legacy=True, tokenizer_class="CodeLlamaTokenizer", **added)
    assert code.encode_special("day</s>day") == [9, 2, 8]


@pytest.mark.parametrize("legacy", [False, True])
def test_llama_without_a_space_in_front(tmp_path: Path, legacy: bool) -> None:
    found = llama(tmp_path / "a", legacy=legacy, add_prefix_space=False)
    assert found.encode("day day") == [8, 9]
    assert found.decode([8, 9]) == "day day"


def test_options_of_a_class_win_over_its_tokenizer_json(tmp_path: Path) -> None:
    vocab = {"\u0120": 0, "d": 1, "a": 2, "y": 3, "da": 4, "day": 5, "\u0120day": 6}
    files = {"vocab__json": json.dumps(vocab).encode(), "merges__txt": MERGES.encode()}
    plain = read(tmp_path / "a", {"tokenizer_class": "GPT2Tokenizer"}, **files)
    assert plain.encode("day") == [5]
    spaced = {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": True}
    found = read(tmp_path / "b", spaced, tokenizer__json=plain.serialize())
    assert found.encode("day") == [6]
    words = b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nday\nDay\n"
    lower = read(tmp_path / "c", {"tokenizer_class": "BertTokenizer"}, vocab__txt=words)
    cased = {"tokenizer_class": "BertTokenizer", "do_lower_case": False}
    found = read(tmp_path / "d", cased, tokenizer__json=lower.serialize())
    assert (lower.encode("Day"), found.encode("Day")) == ([5], [6])


def test_byt5_has_three_control_tokens_then_bytes_then_sentinels(tmp_path: Path) -> None:
    found = read(tmp_path / "a", {"tokenizer_class": "ByT5Tokenizer"})
    assert found.encode_special("a\u00e9<pad>b</s>") == [100, 198, 172, 0, 101, 1]
    assert found.encode_special("<extra_id_124>") == [383]
    assert (found.vocab_size, found.eos_id) == (384, 1)
    assert found.decode([100, 198, 172, 1]) == "a\u00e9"


def test_sentinels_of_byt5_are_those_counted_and_those_listed(tmp_path: Path) -> None:
    byt5 = {"tokenizer_class": "ByT5Tokenizer", "extra_ids": 0}
    found = read(tmp_path / "a", byt5 | {"additional_special_tokens": ["<extra_id_0>", "<x>"]})
    assert found.encode_special("<extra_id_0><x>") == [259, 260]
    assert found.vocab_size == 261
    for count in ("x", None, -3, True):
        with pytest.raises(DataError, match="extra_ids"):
            read(tmp_path / "a", byt5 | {"extra_ids": count})


def test_a_class_without_its_files_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="names the tokenizer_class 'CanineTokenizer'"):
        read(tmp_path / "a", {"tokenizer_class": "CanineTokenizer"})


def test_clip_decodes_no_text_and_words(tmp_path: Path) -> None:
    vocab = {"d": 0, "d</w>": 1, "a</w>": 2, "<|startoftext|>": 3, "<|endoftext|>": 4}
    files = {"vocab__json": json.dumps(vocab).encode(), "merges__txt": b"#version: 0.2\n"}
    found = read(tmp_path / "a", {"tokenizer_class": "CLIPTokenizer"}, **files)
    assert [found.decode(tokens) for tokens in ([], [3, 4], [0, 2, 1])] == ["", "", "da d"]


def test_null_for_the_begin_token_is_none(tmp_path: Path) -> None:
    files = {"vocab__json": b'{"a": 0, "<|endoftext|>": 1}', "merges__txt": b"#version: 0.2\n"}
    found = read(tmp_path / "a", {"tokenizer_class": "GPT2Tokenizer", "bos_token": None}, **files)
    assert (found.bos_id, found.eos_id) == (None, 1)
    assert load_tokenizer(tmp_path / "a" / "kept").bos_id is None
