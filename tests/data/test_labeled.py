"""Batches of labelled records: classes, tags, answers, and texts of like meaning."""

import numpy as np
import pytest

from mlx_transformers.core.errors import DataError
from mlx_transformers.data.batches.labeled import fitted

from . import records

CLS, SEP = "<257>", "<258>"


def rows_of(tmp_path, rows, batch, seq_len=24):
    made = records.prepared(records.write(tmp_path, rows), batch, valid_fraction=0.0)
    train = records.train(made, seq_len, shuffle=False)
    return made[0], train.batch(np.arange(train.per_epoch))


def shown(batch, row):
    return records.text(batch["tokens"][row][batch["valid"][row]])


def test_labels_are_the_classes_in_alphabetical_order(tmp_path):
    rows = [{"text": t, "label": k} for t, k in (("a", "no"), ("b", "yes"), ("c", "maybe"))]
    prepared, batch = rows_of(tmp_path, rows, {"kind": "labeled"})
    assert prepared.labels == ["maybe", "no", "yes"]
    assert batch["label"].tolist() == [1, 2, 0]
    assert [shown(batch, row) for row in range(3)] == [f"{CLS}{t}{SEP}" for t in "abc"]
    assert batch["weights"].tolist() == [1, 1, 1]


def test_two_texts_have_types_and_share_the_room(tmp_path):
    rows = [{"one": "a" * 20, "two": "bbb", "label": "x"}, {"one": "a", "two": "b", "label": "y"}]
    batch = {"kind": "labeled", "text_key": "one", "other_key": "two"}
    _, batch = rows_of(tmp_path, rows, batch, seq_len=12)
    assert [shown(batch, row) for row in range(2)] == [
        f"{CLS}{'a' * 6}{SEP}bbb{SEP}",
        f"{CLS}a{SEP}b{SEP}",
    ]
    assert batch["types"].tolist() == [[0] * 8 + [1] * 4, [0, 0, 0, 1, 1] + [0] * 7]


def test_few_examples_are_the_same_in_each_epoch_and_among_more_of_them(tmp_path):
    rows = [{"text": f"{i:02}", "label": "odd" if i % 2 else "even"} for i in range(40)]
    path = records.write(tmp_path, rows)

    def learned(n, epochs=2, seed=0):
        made = records.prepared(path, {"kind": "labeled", "n_examples": n}, valid_fraction=0.25)
        train = records.train(made, 24, seed=seed)
        assert train.per_epoch == n
        batch = train.batch(np.arange(epochs * n))
        return [shown(batch, row) for row in range(epochs * n)]

    five = learned(5)
    assert len(set(five)) == len(set(five[:5])) == 5
    assert set(five) < set(learned(10))
    assert set(five) != set(learned(5, seed=1))
    with pytest.raises(DataError, match=r"n_examples = 41 is more than the \d\d records"):
        learned(41)


def test_what_is_measured_on_stays_whole(tmp_path):
    rows = [{"text": f"{i:02}", "label": "odd" if i % 2 else "even"} for i in range(40)]
    path = records.write(tmp_path, rows)
    batches = ({"kind": "labeled"}, {"kind": "labeled", "n_examples": 2})
    whole, few = (
        records.held_out(records.prepared(path, batch, valid_fraction=0.25), 24)
        for batch in batches
    )
    assert few.per_epoch == whole.per_epoch > 2


@pytest.mark.parametrize(
    ("lengths", "room", "expected"),
    [([20, 3], 9, [6, 3]), ([20, 20], 9, [4, 5]), ([2, 3], 9, [2, 3]), ([10], 4, [4])],
)
def test_the_longer_text_is_cut_first(lengths, room, expected):
    found = fitted([np.arange(n) for n in lengths], room)
    assert sorted(map(len, found)) == sorted(expected)
    assert all((text == np.arange(len(text))).all() for text in found)


def test_a_tag_stands_at_the_first_token_of_its_word(tmp_path):
    rows = [{"words": ["The", "cat", "sat"], "tags": ["det", "noun", "verb"]}]
    prepared, batch = rows_of(tmp_path, rows, {"kind": "tagged"})
    assert prepared.labels == ["det", "noun", "verb"]
    assert shown(batch, 0) == f"{CLS}The cat sat{SEP}"
    assert np.flatnonzero(batch["weights"][0]).tolist() == [1, 4, 8]
    assert batch["targets"][0, [1, 4, 8]].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"words": ["a", "b"], "tags": ["x"]}, "2 words and 1 tags"),
        ({"words": "a b", "tags": ["x"]}, "the field 'words' is no list of strings"),
    ],
)
def test_words_and_tags_that_do_not_match_are_refused(tmp_path, row, message):
    with pytest.raises(DataError, match=rf"records.jsonl:1: {message}"):
        rows_of(tmp_path, [row], {"kind": "tagged"})


QUESTION = {"question": "who?", "context": "Ann saw Bö and Ann.", "answer": "Ann"}


@pytest.mark.parametrize(
    ("changes", "batch", "expected"),
    [
        ({}, {}, "Ann"),
        ({"answer": "Bö"}, {}, "B\u00c3\u00b6"),
        ({"at": 15}, {"start_key": "at"}, "Ann"),
        ({"answer": ""}, {}, CLS),
        ({"question": "w" * 50, "answer": "and Ann."}, {}, CLS),  # cut off
    ],
)
def test_an_answer_is_where_the_context_says_it(tmp_path, changes, batch, expected):
    row = QUESTION | changes
    _, found = rows_of(tmp_path, [row], {"kind": "answers"} | batch, seq_len=30)
    first, last = found["answer"][0]
    assert records.text(found["tokens"][0, first : last + 1]) == expected
    if "at" in changes:
        assert first == 1 + 4 + 1 + len("Ann saw Bö and ".encode())
    assert found["types"][0].sum() == found["valid"][0].sum() - row["question"][:13].__len__() - 2


def test_an_answer_that_the_context_does_not_have_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"records.jsonl:1: the answer 'Eve' is not in the context"):
        rows_of(tmp_path, [QUESTION | {"answer": "Eve"}], {"kind": "answers"})


def test_subwords_that_hold_an_answer(tmp_path):
    rows = [
        QUESTION | {"context": f"the {n} bottles of {n} wall {n}", "answer": "bottles of"}
        for n in range(40)
    ]
    path = records.write(tmp_path, rows)
    tokenizer = {"kind": "sentencepiece", "vocab_size": 300}
    made = records.prepared(path, {"kind": "answers"}, valid_fraction=0.0, tokenizer=tokenizer)
    batch = records.train(made, 48).batch(np.arange(40))
    for tokens, (first, last) in zip(batch["tokens"], batch["answer"], strict=True):
        assert made[0].tokenizer.decode(tokens[first : last + 1]).strip() == "bottles of"


def test_texts_of_like_meaning_stand_side_by_side(tmp_path):
    rows = [{"a": "one", "b": "1"}, {"a": "two", "b": "2" * 40}]
    _, batch = rows_of(tmp_path, rows, {"kind": "contrastive"}, seq_len=12)
    assert records.text(batch["a"][1][batch["a_valid"][1]]) == f"{CLS}two{SEP}"
    assert records.text(batch["b"][1][batch["b_valid"][1]]) == f"{CLS}{'2' * 10}{SEP}"
