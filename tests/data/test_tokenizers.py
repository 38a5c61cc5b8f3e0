"""Tokenizers: lossless, deterministic, and nobody's text is a control token."""

import json
import random

import pytest
from tokenizers import Tokenizer as Library
from tokenizers import decoders, models, pre_tokenizers, trainers

from mlx_transformers.core.errors import DataError
from mlx_transformers.data.tokenizers.byte import Byte
from mlx_transformers.data.tokenizers.char import Char
from mlx_transformers.data.tokenizers.hf import HfTokenizer, TokenizerJson
from mlx_transformers.data.tokenizers.load import load_tokenizer
from mlx_transformers.data.tokenizers.sample import CHUNK_CHARS, sample
from mlx_transformers.data.tokenizers.sentencepiece import SentencePiece
from mlx_transformers.data.tokenizers.stream import StreamDecoder

from .conftest import STDLIB

TEXT = (STDLIB / "argparse.py").read_text() + (STDLIB / "datetime.py").read_text()
STRANGE = "\n\n  \t é日本語😀\r\n\u2581\u2585\ufeff\x00 <s></s><unk><0x41>▁▁ \u200d\U0010ffff  x "


def tokenizer_json(folder):
    """A byte-level BPE trained on TEXT, saved as the library does."""
    library = Library(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=["<|endoftext|>", "<s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    library.train_from_iterator([TEXT], trainer)
    library.enable_padding(length=4096)
    library.enable_truncation(3)
    library.save(str(folder / "tokenizer.json"))
    return TokenizerJson(path=str(folder / "tokenizer.json"))


CONFIGS = {
    "char": lambda folder: Char(),
    "byte": lambda folder: Byte(),
    "bpe": lambda folder: SentencePiece(vocab_size=600),
    "unigram": lambda folder: SentencePiece(vocab_size=600, model_type="unigram"),
    "json": tokenizer_json,
}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizers")
    return {name: config(folder).build([TEXT, STRANGE]) for name, config in CONFIGS.items()}


@pytest.fixture(params=list(CONFIGS))
def tokenizer(request, built):
    return built[request.param]


def test_real_text_comes_back_as_it_was(tokenizer):
    tokens = tokenizer.encode(TEXT)
    assert tokenizer.decode(tokens) == TEXT
    assert 0 <= min(tokens) <= max(tokens) < tokenizer.vocab_size
    assert tokenizer.encode_array(TEXT).tolist() == tokens


def test_strange_text_comes_back_as_it_was(tokenizer):
    rng = random.Random(0)
    for _ in range(300):
        text = "".join(rng.choices(STRANGE, k=rng.randrange(1, 30)))
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_empty_text_is_no_tokens(tokenizer):
    assert tokenizer.encode("") == []
    assert tokenizer.decode([]) == ""


def test_control_tokens_typed_by_a_user_are_text(tokenizer):
    tokens = tokenizer.encode("<s> </s> <|endoftext|> <unk>" if tokenizer.kind != "char" else "<s>")
    assert not {tokenizer.bos_id, tokenizer.eos_id} & set(tokens)


def test_control_tokens_decode_to_nothing(tokenizer):
    if tokenizer.eos_id is not None:
        a, b = tokenizer.encode("a"), tokenizer.encode("b")
        assert tokenizer.decode([*a, tokenizer.eos_id, *b]) == "ab"


def test_what_was_saved_is_what_is_loaded(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "saved")
    loaded = load_tokenizer(tmp_path / "saved")
    assert loaded.description() == tokenizer.description()
    assert loaded.encode(TEXT[:3000]) == tokenizer.encode(TEXT[:3000])


def test_streamed_text_is_the_whole_text_and_never_half_a_character(tokenizer):
    text = "né 日本語😀\n" * 3 if tokenizer.kind != "char" else TEXT[:200]
    decoder = StreamDecoder(tokenizer)
    parts = [decoder.feed(token) for token in tokenizer.encode(text)] + [decoder.flush()]
    assert "".join(parts) == text
    assert not any("\ufffd" in part for part in parts)


def test_a_stream_that_stops_inside_a_character_says_so_at_the_end():
    tokenizer = Byte().build([])
    decoder = StreamDecoder(tokenizer)
    assert [decoder.feed(token) for token in "😀".encode()[:3]] == ["", "", ""]
    assert decoder.flush() == "\ufffd"


def test_a_stream_goes_on_after_bytes_that_make_no_character():
    decoder = StreamDecoder(Byte().build([]))
    parts = [decoder.feed(token) for token in b"a\xe6b"] + [decoder.flush()]
    assert "".join(parts) == "a\ufffdb"


def test_training_twice_gives_the_same_tokenizer(tmp_path):
    for model_type in ("bpe", "unigram"):
        config = SentencePiece(vocab_size=500, model_type=model_type)
        assert config.build([TEXT]).fingerprint() == config.build([TEXT]).fingerprint()


def test_training_does_not_depend_on_how_the_text_arrives():
    config = SentencePiece(vocab_size=500)
    lines = TEXT.splitlines(keepends=True)
    assert config.build(lines).fingerprint() == config.build([TEXT]).fingerprint()


def test_a_line_end_is_a_token_of_its_own(built):
    tokenizer = built["bpe"]
    together = tokenizer.encode("ROMEO:\nBut")
    assert together == tokenizer.encode("ROMEO:\n") + tokenizer.encode("But")


def test_a_vocabulary_larger_than_the_text_needs_becomes_smaller():
    assert 260 < SentencePiece(vocab_size=5000).build(["a few words\n" * 5]).vocab_size < 5000


def test_a_vocabulary_too_small_is_an_error():
    with pytest.raises(DataError, match=r"required_chars\. 100 vs \d+\. Try a larger data\.tok"):
        SentencePiece(vocab_size=100).build([TEXT])


def test_without_byte_fallback_an_unknown_character_is_an_error():
    tokenizer = SentencePiece(vocab_size=300, byte_fallback=False).build([TEXT])
    assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT
    with pytest.raises(DataError, match="byte_fallback"):
        tokenizer.encode("日")


def test_an_existing_sentencepiece_model_can_be_used(built, tmp_path):
    path = tmp_path / "my.model"
    path.write_bytes(built["bpe"].serialize())
    assert SentencePiece(path=str(path)).build([]).fingerprint() == built["bpe"].fingerprint()


def test_an_unknown_character_is_an_error_that_names_it():
    with pytest.raises(DataError, match="'é'"):
        Char().build(["abcf"]).encode("café")


@pytest.mark.parametrize("text", ["", "aaaa"])
def test_one_character_is_no_vocabulary(text):
    with pytest.raises(DataError, match="nothing to predict"):
        Char().build([text])


@pytest.mark.parametrize("config", [TokenizerJson, SentencePiece])
def test_a_file_that_is_no_tokenizer_is_an_error(config, tmp_path):
    path = tmp_path / "tokenizer.json"
    for content in (b"", b"{}", b"\xff\xfe nonsense"):
        path.write_bytes(content)
        with pytest.raises(DataError, match="can't be read"):
            config(path=str(path)).build([])
    with pytest.raises(DataError, match="can't be read"):
        config(path=str(tmp_path / "absent")).build([])


def test_an_end_token_that_does_not_exist_is_an_error(tmp_path):
    path = tokenizer_json(tmp_path).path
    with pytest.raises(DataError, match=r"Did you mean '<\|endoftext\|>'"):
        TokenizerJson(path=path, eos="<|endoftxt|>").build([])


@pytest.mark.parametrize(
    "damage", ["payload", "manifest", "kind", "absent", "types", "unhashable", "loop", "ends"]
)
def test_a_damaged_tokenizer_folder_is_an_error(built, tmp_path, damage):
    built["bpe"].save(tmp_path)
    manifest = tmp_path / "manifest.json"
    match damage:
        case "payload":
            (tmp_path / "sentencepiece.model").write_bytes(b"damaged")
        case "manifest":
            manifest.write_text("{")
        case "kind":
            manifest.write_text(manifest.read_text().replace('"sentencepiece"', '"sentencepice"'))
        case "absent":
            manifest.unlink()
        case "types":
            manifest.write_text('{"kind": 5, "file": 5}')
        case "unhashable":
            manifest.write_text('{"kind": [], "file": "sentencepiece.model"}')
        case "ends":
            manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"ends": 5}))
        case "loop":
            (tmp_path / "sentencepiece.model").unlink()
            (tmp_path / "sentencepiece.model").symlink_to("sentencepiece.model")
    with pytest.raises(DataError, match="tokenizer"):
        load_tokenizer(tmp_path)


def test_a_sample_is_all_of_a_small_text_and_an_even_part_of_a_large_one():
    lines = [f"{number:06d} some words of this line\n" for number in range(60_000)]
    assert "".join(sample(lines[:1000], 1_000_000)) == "".join(lines[:1000])
    chosen = sample(lines, 200_000)
    assert abs(sum(map(len, chosen)) - 200_000) < 2 * CHUNK_CHARS
    assert chosen == sorted(chosen) == sample(lines, 200_000)
    middle = sum(int(chunk[:6]) for chunk in chosen) / len(chosen)
    assert 20_000 < middle < 40_000


def test_a_character_without_a_token_is_a_sentence() -> None:
    """A WordPiece vocabulary without [UNK] can't encode other characters than its own."""
    library = Library(models.WordPiece({"a": 0, "b": 1}, unk_token="[UNK]"))
    tokenizer = HfTokenizer(library.to_str().encode())
    assert tokenizer.encode("a") == [0]
    with pytest.raises(DataError, match=r"can't encode 'hello'.*UNK"):
        tokenizer.encode("hello")
