"""Synthetic tasks: examples that keep their rules, from settings and a seed."""

import numpy as np
import pytest

from mlx_transformers.assembly import registry  # noqa: F401  (fills the slots)
from mlx_transformers.core.errors import DataError, RecipeError
from mlx_transformers.data.batches.spans import Spans
from mlx_transformers.data.config import Data
from mlx_transformers.data.corpora.brackets import Brackets
from mlx_transformers.data.corpora.copying import Copy
from mlx_transformers.data.corpora.induction import Induction
from mlx_transformers.data.corpora.listops import ListOps
from mlx_transformers.data.corpora.mqar import Mqar
from mlx_transformers.data.corpora.selective_copy import SelectiveCopy
from mlx_transformers.data.corpora.table import GENERATED
from mlx_transformers.data.kinds import BatchSetting
from mlx_transformers.data.pieces import Piece
from mlx_transformers.data.prepare import prepare
from mlx_transformers.data.tokenizers.load import load_tokenizer
from mlx_transformers.data.tokenizers.words import Words, WordTokenizer
from mlx_transformers.recipe.slot import kind_of

FEW = {"n_examples": 40}


def asked(row):
    """The words of an example and the places of those that are predicted."""
    starts = dict(row["spans"])
    at, words, places = 0, row["text"].split(" "), []
    for place, word in enumerate(words):
        if at in starts:
            assert starts[at] == at + len(word)
            places.append(place)
        at += len(word) + 1
    assert len(places) == len(row["spans"])
    return words, places


@pytest.mark.parametrize("corpus", GENERATED, ids=lambda corpus: corpus.name)
def test_examples_depend_on_the_settings_and_the_seed_alone(corpus):
    first, again = corpus(FEW), corpus(FEW)
    assert first.records == again.records
    assert len(first.records) == 40
    assert first.digest() == again.digest()
    other = corpus({**FEW, "seed": 1})
    assert other.records != first.records
    assert other.digest() != first.digest()
    texts = [row["text"] for row in corpus({"n_examples": 60}).records]
    assert texts[:40] == [row["text"] for row in first.records]


def test_every_query_of_mqar_is_answered_by_the_value_beside_its_key():
    for row in Mqar({**FEW, "n_pairs": 8, "length": 64}).records:
        words, places = asked(row)
        pairs = dict(zip(words[:16:2], words[1:16:2], strict=True))
        assert len(words) == 64
        assert len(places) == len(pairs) == 8
        assert all(words[place] == pairs[words[place - 1]] for place in places)
        assert sorted(words[place - 1] for place in places) == sorted(pairs)


def test_selective_copy_repeats_the_tokens_among_the_noise_in_order():
    for row in SelectiveCopy({**FEW, "n_tokens": 5, "context": 20}).records:
        words, places = asked(row)
        assert words.index("copy") == 20
        assert [word for word in words[:20] if word != "."] == words[21:]
        assert places == list(range(21, 26))


def test_induction_asks_for_the_token_after_the_special_one():
    for row in Induction({**FEW, "length": 12}).records:
        words, places = asked(row)
        assert words.count("!") == 2
        assert places == [12] == [len(words) - 1]
        assert words[11] == "!"
        assert words[12] == words[words.index("!") + 1] != "!"


@pytest.mark.parametrize("reverse", [False, True])
def test_copy_repeats_the_sequence(reverse):
    lengths = set()
    for row in Copy({**FEW, "reverse": reverse, "min_length": 2, "max_length": 5}).records:
        words, places = asked(row)
        middle = words.index("copy")
        lengths.add(middle)
        assert words[middle + 1 :] == (words[:middle][::-1] if reverse else words[:middle])
        assert places == list(range(middle + 1, len(words)))
    assert lengths == {2, 3, 4, 5}


def test_brackets_close_the_kind_opened_last_and_stay_within_the_depth():
    deepest = 0
    for row in Brackets({**FEW, "n_kinds": 3, "max_depth": 4, "length": 30}).records:
        words, places = asked(row)
        stack = []
        for place, word in enumerate(words):
            if word[0] == "(":
                stack.append(word[1:])
            else:
                assert stack.pop() == word[1:]
                assert place in places
            deepest = max(deepest, len(stack))
        assert not stack
        assert len(words) == 30
    assert deepest == 4


def evaluate(words):
    """The value of ListOps by a stack."""
    functions = {
        "[MIN": min,
        "[MAX": max,
        "[MED": lambda values: int(np.median(values)),
        "[SM": lambda values: sum(values) % 10,
    }
    stack = [[]]
    for word in words:
        if word in functions:
            stack.append([word])
        elif word == "]":
            name, *values = stack.pop()
            stack[-1].append(functions[name](values))
        else:
            stack[-1].append(int(word))
    ((value,),) = stack
    return value


def test_the_label_of_listops_is_the_value_of_its_expression():
    rows = ListOps({**FEW, "min_length": 5, "max_length": 60}).records
    for row in rows:
        words = row["text"].split()
        assert 5 <= len(words) <= 60
        assert str(evaluate(words)) == row["label"]
    assert len({row["label"] for row in rows}) > 4


@pytest.mark.parametrize(
    ("corpus", "settings", "words"),
    [
        (Mqar, {"n_pairs": 20, "length": 64}, "20 pairs and their queries take 80 tokens"),
        (Mqar, {"pairs": 4}, "Did you mean 'n_pairs'"),
        (SelectiveCopy, {"n_tokens": 9, "context": 8}, "9 tokens don't fit"),
        (Brackets, {"length": 7}, "length = 7 is odd"),
        (Copy, {"min_length": 9, "max_length": 8}, "above max_length"),
        (Induction, {"length": 1}, "data.settings.length"),
        (Induction, {"length": "9"}, "data.settings.length"),
    ],
)
def test_settings_that_no_example_can_have_are_refused(corpus, settings, words):
    with pytest.raises(ValueError, match=words):
        corpus(settings)


def test_settings_of_a_corpus_that_takes_none_are_refused():
    with pytest.raises(ValueError, match="'stdlib' takes none"):
        Data.model_validate(
            {"corpus": "stdlib", "settings": {"a": 1}, "tokenizer": {"kind": "byte"}}
        )


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("MLXT_CACHE", str(tmp_path))
    return Data.model_validate(
        {
            "corpus": "copy",
            "settings": {"n_examples": 50, "max_length": 12},
            "tokenizer": {"kind": "words"},
            "batch": {"kind": "spans"},
        }
    )


def test_the_weights_of_a_row_mark_the_tokens_of_its_spans(data):
    prepared = prepare(data)
    rows = data.batch.train(prepared, BatchSetting(seq_len=30, seed=0))
    batch = rows.batch(np.arange(4))
    tokenizer = prepared.tokenizer
    assert batch["tokens"].shape == (4, 31)
    for tokens, weights in zip(batch["tokens"], batch["weights"], strict=True):
        predicted = tokenizer.decode(tokens[1:][weights > 0]).split()
        words = tokenizer.decode(tokens).split()
        assert words[: words.index("copy")] == predicted


def test_a_text_longer_than_the_rows_is_an_error(data):
    with pytest.raises(DataError, match=r"train\.seq_len"):
        data.batch.train(prepare(data), BatchSetting(seq_len=10, seed=0))


@pytest.mark.parametrize("spans", [[[0, 99]], [[2, 1]], "0-1", [[0]], [["a", "b"]]])
def test_spans_outside_the_text_name_the_record(spans):
    piece = Piece("", where="x.jsonl, line 3", record={"text": "a b", "spans": spans})
    with pytest.raises(DataError, match=r"x\.jsonl, line 3.*3\."):
        Spans().accept(piece)


def test_spans_count_characters_and_touch_whole_tokens():
    tokenizer = WordTokenizer(["<unk>", "é", "bc"])
    marked = Spans().encode({"text": "é bc é", "spans": [[3, 4]]}, tokenizer, {})
    assert marked == [[1, 2, 1], [0, 1, 0]]


def test_words_stand_where_the_text_has_them_whatever_lies_between() -> None:
    for text, letters in (("é\n\nbc  é", False), ("É, -- bc!", True)):
        tokenizer = WordTokenizer(["<unk>", "é", "bc"], letters)
        start = text.index("bc")
        marked = Spans().encode({"text": text, "spans": [[start, start + 2]]}, tokenizer, {})[1]
        assert [i for i, one in enumerate(marked) if one] == [1]


def test_words_are_the_most_frequent_ones_and_others_are_unknown(tmp_path):
    built = Words(vocab_size=3).build(["b a b", "c a b"])
    assert built.words == ["<unk>", "b", "a"]
    assert built.encode("a  c\nb") == [2, 0, 1]
    built.save(tmp_path)
    again = load_tokenizer(tmp_path)
    assert again.decode([2, 1]) == "a b"
    assert again.fingerprint() == built.fingerprint()
    with pytest.raises(DataError, match="1 words"):
        Words(min_count=2).build(["a a b"])
    with pytest.raises(RecipeError):
        kind_of("tokenizer", "word")


def test_the_reason_of_a_refused_setting_is_given_without_the_validator_s_words():
    with pytest.raises(ValueError, match=r"^data\.settings: 20 pairs"):
        Mqar({"n_pairs": 20})
