"""Metrics beside their definitions written another way, and intervals beside theory."""

import numpy as np
import pytest

from mlx_transformers.score.classes import (
    accuracy,
    classification,
    confusion,
    macro_f1,
    matthews,
    shares,
)
from mlx_transformers.score.interval import scored
from mlx_transformers.score.spans import answers, best_span, names, names_in
from mlx_transformers.score.texts import leads, summarization, translation

RNG = np.random.default_rng(0)


def classes(n_classes, n=200):
    labels = RNG.integers(0, n_classes, n)
    return labels, np.where(RNG.random(n) < 0.6, labels, RNG.integers(0, n_classes, n))


def test_a_table_of_answers_counts_each_once():
    table = confusion(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 0]), 3)
    assert table.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]
    assert accuracy(table) == 0.5


@pytest.mark.parametrize("n_classes", [2, 5])
def test_macro_f1_is_the_mean_of_the_harmonic_means(n_classes):
    labels, said = classes(n_classes)
    f1 = []
    for c in range(n_classes):
        precision = np.mean(labels[said == c] == c)
        recall = np.mean(said[labels == c] == c)
        f1.append(2 * precision * recall / (precision + recall))
    assert macro_f1(confusion(labels, said, n_classes)) == pytest.approx(np.mean(f1))


def test_a_class_that_is_nowhere_takes_no_part_in_f1():
    table = confusion(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]), 2)
    assert macro_f1(np.pad(table, (0, 1))) == macro_f1(table)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_matthews_is_the_correlation_of_indicators(n_classes):
    labels, said = classes(n_classes)
    x, y = np.eye(n_classes)[labels], np.eye(n_classes)[said]
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    expected = (x * y).sum() / np.sqrt((x * x).sum() * (y * y).sum())
    assert matthews(confusion(labels, said, n_classes)) == pytest.approx(expected)
    if n_classes == 2:
        assert expected == pytest.approx(np.corrcoef(labels, said)[0, 1])
    assert matthews(confusion(labels, np.zeros_like(said), n_classes)) == 0.0


def test_the_interval_of_a_share_is_that_of_theory():
    right = np.arange(400) % 4 > 0
    found = scored("share", 400, lambda i: float(right[i].mean()), draws=4000)
    half = 1.96 * np.sqrt(0.75 * 0.25 / 400)
    assert found.value == 0.75
    assert (found.low, found.high) == pytest.approx((0.75 - half, 0.75 + half), abs=0.004)
    assert found == scored("share", 400, lambda i: float(right[i].mean()), draws=4000)


def test_examples_are_drawn_and_not_what_they_ask():
    one = shares("x", np.array([10.0, 0.0]), np.array([10.0, 10.0]))
    many = shares("x", np.array([1.0, 0.0] * 10), np.ones(20))
    assert one.value == many.value == 0.5
    assert (one.low, one.high) == (0.0, 1.0)
    assert many.low > 0.2


def test_classification_gives_the_metrics_of_the_field():
    labels = np.array([0, 1, 1, 0, 1, 0] * 20)
    found = {score.name: score for score in classification(labels, labels, 2)}
    assert set(found) == {"accuracy", "macro_f1", "matthews"}
    assert all((s.value, s.low, s.high) == (1, 1, 1) for s in found.values())


WRITTEN = ["the cat sat on the mat", "a dog barks", "it rains in the north today"] * 7
REFERENCES = ["the cat is on the mat", "a dog barks", "it rained in the south today"] * 7


def test_bleu_and_chrf_have_intervals():
    for score in translation(WRITTEN, REFERENCES):
        assert 0 < score.low < score.value < score.high <= 100
    assert translation(REFERENCES, REFERENCES)[0].low == pytest.approx(100)


def test_rouge_counts_what_texts_share():
    one, two, longest = summarization(WRITTEN, REFERENCES)
    # Of 6 words 5, of 3 all, of 6 words 5 (rains and rained have one stem); 3 of 5 pairs, 2 of 2,
    # 3 of 5.
    assert one.value == pytest.approx((5 / 6 + 1 + 5 / 6) / 3)
    assert two.value == pytest.approx((3 / 5 + 1 + 3 / 5) / 3)
    assert longest.value == pytest.approx(one.value)


def test_a_lead_has_as_many_words_as_references_have_in_the_middle():
    references = ["one", "one two three", "a b c d e"]
    sources = ["def big_red(self, x):", "too short", ""]
    assert leads(sources, references) == ["def big red", "too short", ""]


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("O B-P I-P O", {(1, 2, "P")}),
        ("B-P B-P I-P", {(0, 0, "P"), (1, 2, "P")}),
        ("B-P I-L I-L", {(0, 0, "P"), (1, 2, "L")}),
        ("I-P O I-P", {(0, 0, "P"), (2, 2, "P")}),
        ("O O", set()),
    ],
)
def test_names_go_from_where_they_begin_to_where_they_end(tags, expected):
    assert names_in(tags.split()) == expected


def test_a_name_counts_whole_or_not_at_all():
    expected = ["B-P I-P O B-L", "O O", "B-P O"]
    said = ["B-P O O B-L", "B-P O", "B-P O"]
    found = names(*([tags.split() for tags in side] for side in (expected, said)))
    assert [score.name for score in found] == ["name_precision", "name_recall", "name_f1"]
    assert [score.value for score in found] == pytest.approx([2 / 4, 2 / 3, 4 / 7])


def test_answers_are_compared_as_words_without_case_articles_and_points():
    expected = ["The Tower, of London.", "in 1066", "", ""]
    said = ["a tower of london", "1066", "", "never"]
    exact, f1 = answers(expected, said)
    assert exact.value == 2 / 4
    assert f1.value == pytest.approx((1 + 2 / 3 + 1 + 0) / 4)


def test_the_best_span_does_not_end_before_it_begins():
    starts, ends = np.array([0.0, 1.0, 5.0]), np.array([0.0, 6.0, 2.0])
    assert best_span(starts, ends) == (1, 1)
    starts[1] = -9
    assert best_span(starts, ends) == (2, 2)
