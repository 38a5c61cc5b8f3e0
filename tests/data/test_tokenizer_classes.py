"""Published tokenizers have the ids of their own class.

Expected ids are those of transformers 5.24 for the same files, which are small enough to be made
here: a unigram model of single letters and a few words, whose cuts leave no choice.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mlx_transformers.core.errors import DataError
from mlx_transformers.data.config import Data
from mlx_transformers.data.prepare import prepare
from mlx_transformers.data.prepared import Prepared
from mlx_transformers.data.tokenizers.controls import with_controls
from mlx_transformers.data.tokenizers.load import load_tokenizer
from mlx_transformers.data.tokenizers.model_proto import Model, Piece, serialize
from mlx_transformers.data.tokenizers.published import read_tokenizer
from mlx_transformers.data.tokenizers.stream import StreamDecoder
from mlx_transformers.data.tokenizers.tokenizer import Tokenizer

SPACE = "\u2581"
WORDS = [f"{SPACE}the", f"{SPACE}day", SPACE, "t", "h", "e", "d", "a", "y"]
FAIRSEQ = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "cls_token": "<s>",
    "sep_token": "</s>",
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}
FIRST = {
    "fairseq": ["<unk>", "<s>", "</s>"],
    "t5": ["<pad>", "</s>", "<unk>"],
    "deberta": ["[PAD]", "[CLS]", "[SEP]", "[UNK]"],
    "albert": ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"],
}


def pieces(first: Sequence[str]) -> bytes:
    """A sentencepiece model of `first` and WORDS; longer words are likelier."""
    control = [Piece(t, 0.0, "unknown" if "unk" in t.lower() else "control") for t in first]
    text = [Piece(word, -1.0 if len(word) > 1 else -5.0, "normal") for word in WORDS]
    return serialize(Model([*control, *text]))


def folder(path: Path, files: dict[str, bytes], settings: dict[str, Any]) -> Tokenizer:
    path.mkdir()
    for name, content in files.items():
        (path / name).write_bytes(content)
    (path / "tokenizer_config.json").write_text(json.dumps(settings))
    found = read_tokenizer(path)
    assert found is not None
    return found


# class, first pieces of the file, id of "▁the" there, roles there
PIECES = [
    ("XLMRobertaTokenizer", "fairseq", 4, {"cls": 0, "pad": 1, "mask": 13}),
    ("CamembertTokenizer", "fairseq", 7, {"cls": 5, "pad": 1, "mask": 16}),
    ("MBartTokenizer", "fairseq", 4, {"pad": 1, "mask": 13 + 25}),
    ("MBart50Tokenizer", "fairseq", 4, {"pad": 1, "mask": 13 + 52}),
    ("NllbTokenizer", "fairseq", 4, {"pad": 1, "mask": 13 + 202}),
    ("XGLMTokenizer", "fairseq", 4, {"pad": 1}),
    ("T5Tokenizer", "t5", 3, {"pad": 0, "sentinel_0": 111, "sentinel_99": 12}),
    ("PegasusTokenizer", "t5", 106, {"pad": 0, "mask": 3}),
    ("DebertaV2Tokenizer", "deberta", 4, {"pad": 0, "cls": 1, "sep": 2, "mask": 13}),
    ("RemBertTokenizer", "albert", 5, {"pad": 0, "cls": 2, "sep": 3, "mask": 4}),
    ("AlbertTokenizer", "albert", 5, {"pad": 0, "cls": 2, "sep": 3, "mask": 4}),
]


@pytest.mark.parametrize(("name", "first", "start", "roles"), PIECES, ids=[p[0] for p in PIECES])
def test_a_sentencepiece_model_has_the_ids_of_its_class(
    name: str, first: str, start: int, roles: dict[str, int], tmp_path: Path
) -> None:
    settings = {"tokenizer_class": name, **(FAIRSEQ if first == "fairseq" else {})}
    found = folder(tmp_path / "in", {"spiece.model": pieces(FIRST[first])}, settings)
    unknown = found.encode("q")[-1]
    ids = [start, start + 1, start, start + 2, unknown, start + 5]
    for each in (found, saved(found, tmp_path / "run")):
        assert each.encode("the day  the qe ") == ids
        assert with_controls(each, tuple(roles)).control("pad") == roles["pad"]
        assert {role: with_controls(each, (role,)).control(role) for role in roles} == roles
        assert each.decode([start, start + 1]) == "the day"


def saved(tokenizer: Tokenizer, place: Path) -> Tokenizer:
    """The tokenizer after a run has kept it."""
    tokenizer.save(place)
    return load_tokenizer(place)


@pytest.mark.parametrize("name", ["M2M100Tokenizer", "MarianTokenizer"])
def test_ids_of_a_table_are_taken_where_the_class_has_one(name: str, tmp_path: Path) -> None:
    table = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, f"{SPACE}Haus": 4}
    table |= {word: 5 + i for i, word in enumerate(reversed(WORDS[1:]))}
    files = {
        "source.spm": pieces(FIRST["fairseq"]),
        "vocab.json": json.dumps(table).encode(),
    }
    found = folder(tmp_path / "in", files, {"tokenizer_class": name})
    for each in (found, saved(found, tmp_path / "run")):
        day, the = table[f"{SPACE}day"], table["<unk>"]  # the table has no piece for "the"
        assert each.encode("day the") == [day, the]
        assert each.decode([4, day]) == "Haus day"
        assert with_controls(each, ("pad",)).control("pad") == 1
        further = 100 + 8 if name == "M2M100Tokenizer" else 0
        assert each.vocab_size == len(table) + further


def test_words_are_those_of_bert_s_options(tmp_path: Path) -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "\u2028", "hello", "cafe", "caf\u00e9"]
    words += ["Hello", "\u6f22", "\u5b57", "\u6f22\u5b57", "##\u5b57"]
    list_of = "\n".join(words).encode() + b"\n"

    def ids(text: str, **settings: Any) -> list[int]:
        place = tmp_path / str(len(list(tmp_path.iterdir())))
        settings = {"tokenizer_class": "BertTokenizer", **settings}
        return folder(place, {"vocab.txt": list_of}, settings).encode(text)

    assert ids("Hello caf\u00e9 \u6f22\u5b57") == [6, 7, 10, 11]
    assert ids("Hello caf\u00e9", do_lower_case=False) == [9, 8]
    assert ids("Hello caf\u00e9", strip_accents=False) == [6, 8]
    assert ids("\u6f22\u5b57", tokenize_chinese_chars=False) == [12]
    assert ids("hello", tokenizer_class="ElectraTokenizerFast") == [6]
    with pytest.raises(DataError, match="do_basic_tokenize"):
        ids("x", do_basic_tokenize=False)


def test_amino_acids_need_no_spaces(tmp_path: Path) -> None:
    words = ["<cls>", "<pad>", "<eos>", "<unk>", *"LAGVSERTIDPKQNFYMHWC", "<mask>"]
    settings = {"tokenizer_class": "EsmTokenizer"}
    found = folder(tmp_path / "in", {"vocab.txt": "\n".join(words).encode()}, settings)
    assert found.encode("MKTAY L") == [words.index(letter) for letter in "MKTAYL"]
    assert found.encode("M?") == [words.index("M"), 3]
    controls = with_controls(found, ("mask", "cls", "sep"))
    assert [controls.control(role) for role in ("mask", "cls", "sep")] == [len(words) - 1, 0, 2]
    assert controls.vocab_size == len(words)
    assert found.prefix == (0,)


def test_words_of_gpt_1_end_in_a_mark(tmp_path: Path) -> None:
    letters = [*"thecat.", *(f"{letter}</w>" for letter in "thecat.")]
    table = {t: i for i, t in enumerate(["<unk>", *letters, "th", "the</w>", "ca", "cat</w>"])}
    merges = b"#version: 0.2\nt h\nth e</w>\nc a\nca t</w>\n"
    files = {"vocab.json": json.dumps(table).encode(), "merges.txt": merges}
    found = folder(tmp_path / "in", files, {"tokenizer_class": "OpenAIGPTTokenizer"})
    assert found.encode("The cat.") == [table["the</w>"], table["cat</w>"], table[".</w>"]]
    assert found.decode(found.encode("the cat")) == "the cat"


def test_words_of_clip_end_in_a_mark_and_digits_stand_alone(tmp_path: Path) -> None:
    ends = ["<|startoftext|>", "<|endoftext|>"]
    words = [*"act12", *(f"{letter}</w>" for letter in "act12"), "ca", "cat</w>", *ends]
    table = {word: i for i, word in enumerate(words)}
    merges = b"#version: 0.2\nc a\nca t</w>\n"
    files = {"vocab.json": json.dumps(table).encode(), "merges.txt": merges}
    found = folder(tmp_path / "in", files, {"tokenizer_class": "CLIPTokenizer"})
    assert found.encode("A  CAT 12") == [table[f"{w}</w>"] for w in ("a", "cat", "1", "2")]
    assert found.decode(found.encode("a CAT")) == "a cat"
    assert (found.prefix, found.eos_id) == ((table[ends[0]],), table[ends[1]])


def test_an_added_token_may_be_its_text_alone(tmp_path: Path) -> None:
    table = {"h": 0, "i": 1, "<|endoftext|>": 2}
    files = {"vocab.json": json.dumps(table).encode(), "merges.txt": b""}
    settings = {"tokenizer_class": "GPT2Tokenizer", "added_tokens_decoder": {"3": "<x>"}}
    found = folder(tmp_path / "in", files, settings)
    assert found.encode("hi<x>") == [0, 1, 3]


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("BertJapaneseTokenizer", "vocab.txt"),
        ("CTRLTokenizer", "vocab.json"),
        ("PLBartTokenizer", "sentencepiece.bpe.model"),
    ],
)
def test_a_class_that_is_not_built_is_refused_by_its_name(
    name: str, file: str, tmp_path: Path
) -> None:
    content = pieces(FIRST["fairseq"]) if file.endswith("model") else b'{"a": 0}'
    files = {file: content, "merges.txt": b""}
    with pytest.raises(DataError, match=f"tokenizer_class = '{name}'"):
        folder(tmp_path / "in", files, {"tokenizer_class": name})


def test_a_special_token_that_is_no_string_is_refused(tmp_path: Path) -> None:
    files = {"sentencepiece.bpe.model": pieces(FIRST["fairseq"])}
    settings = {"tokenizer_class": "XLMRobertaTokenizer", "bos_token": 5}
    with pytest.raises(DataError, match="bos_token is 5, and a special token is a string"):
        folder(tmp_path / "in", files, settings)


def test_a_class_that_the_settings_leave_out_is_that_of_the_model(tmp_path: Path) -> None:
    config = json.dumps({"model_type": "xlm-roberta", "eos_token_id": [2, 7]}).encode()
    files = {"sentencepiece.bpe.model": pieces(FIRST["fairseq"]), "config.json": config}
    found = folder(tmp_path / "in", files, {})
    assert found.encode("the") == [4]
    assert found.end_ids == {2, 7}
    assert saved(found, tmp_path / "run").end_ids == {2, 7}


def llama(place: Path, **settings: Any) -> Tokenizer:
    """A sentencepiece model as LLaMA 2 has it, with two tokens added."""

    first = [Piece("<unk>", 0.0, "unknown"), Piece("<s>", 0.0, "control")]
    rest = [Piece("</s>", 0.0, "control"), *(Piece(w, -float(i), "normal") for i, w in LETTERS)]
    model = Model([*first, *rest], model_type="bpe", trims=False)
    added = {"<|im_start|>": 3 + len(LETTERS), "<|im_end|>": 4 + len(LETTERS)}
    files = {"tokenizer.model": serialize(model), "added_tokens.json": json.dumps(added).encode()}
    names = {"bos_token": "<s>", "eos_token": "<|im_end|>", "unk_token": "<unk>"}
    extra = {"additional_special_tokens": list(added)}
    return folder(place, files, {"tokenizer_class": "LlamaTokenizer", **names, **extra, **settings})


LETTERS = list(enumerate([f"{SPACE}h", "hi", f"{SPACE}hi", SPACE, *"hiyo"]))


def test_added_tokens_end_a_text_and_can_be_spelled_out(tmp_path: Path) -> None:
    found = llama(tmp_path / "in")
    start, end = 3 + len(LETTERS), 4 + len(LETTERS)
    assert (found.vocab_size, found.eos_id, found.prefix) == (end + 1, end, (1,))
    assert start not in found.encode("<|im_start|>hi")
    assert found.encode_special("<|im_start|>hi")[0] == start
    assert found.special_ids["<|im_end|>"] == end
    assert found.text_id_limit == 3 + len(LETTERS)
    assert llama(tmp_path / "bare", add_bos_token=False).prefix == ()
    again = saved(found, tmp_path / "run")
    assert (again.prefix, again.eos_id, again.encode("hi yo")) == ((1,), end, found.encode("hi yo"))


def test_a_continuation_keeps_its_first_space(tmp_path: Path) -> None:
    found = llama(tmp_path / "in")
    first, *rest = found.encode("hi hi yo")
    going_on, beginning = StreamDecoder(found), StreamDecoder(found, begins=True)
    assert "".join([*map(going_on.feed, rest), going_on.flush()]) == " hi yo"
    assert "".join([*map(beginning.feed, [first, *rest]), beginning.flush()]) == "hi hi yo"
    assert found.decode([first, *rest]) == "hi" + " hi yo"


def test_documents_begin_with_the_template_where_text_is_read_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLXT_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "texts.jsonl"
    path.write_text('{"text": "hi hi"}\n{"text": "hi yo"}\n')
    tokenizer = llama(tmp_path / "in")
    tokenizer.save(tmp_path / "tokenizer")
    saved_one = {"kind": "saved", "path": str(tmp_path / "tokenizer")}
    data = Data.model_validate(
        {"path": str(path), "tokenizer": saved_one, "batch": {"kind": "rows"}, "valid_fraction": 0}
    )
    begin, end = tokenizer.prefix, tokenizer.eos_id
    texts = [[*begin, *tokenizer.encode(text), end] for text in ("hi hi", "hi yo")]
    assert stored(prepare(data)) == [*texts[0], *texts[1]]
    llama(tmp_path / "bare", add_bos_token=False).save(tmp_path / "tokenizer")
    assert stored(prepare(data)) == [*texts[0][1:], *texts[1][1:]]


def stored(prepared: Prepared) -> list[int]:
    tokens = prepared.tokens("train")
    return [int(token) for token in tokens[0 : len(tokens)]]


def test_a_run_of_an_older_version_ends_where_its_generation_config_says(tmp_path: Path) -> None:
    config = json.dumps({"eos_token_id": [2, 7]}).encode()
    model = pieces(FIRST["fairseq"])
    files = {"sentencepiece.bpe.model": model, "generation_config.json": config}
    folder(tmp_path / "in", files, {"tokenizer_class": "XLMRobertaTokenizer"}).save(
        tmp_path / "run"
    )
    manifest = tmp_path / "run" / "manifest.json"
    older = {n: v for n, v in json.loads(manifest.read_text()).items() if n != "ends"}
    manifest.write_text(json.dumps(older))
    assert load_tokenizer(tmp_path / "run").end_ids == {2, 7}
