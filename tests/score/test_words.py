"""Word error rate."""

import pytest

from mlx_transformers.score.words import edits, word_errors


@pytest.mark.parametrize(
    ("said", "heard", "n"),
    [
        ("a b c", "a b c", 0),
        ("a b c", "a c", 1),
        ("a b c", "a x b c", 1),
        ("a b c", "c b a", 2),
        ("", "a b", 2),
        ("a b", "", 2),
    ],
)
def test_the_fewest_edits(said: str, heard: str, n: int) -> None:
    assert edits(said.split(), heard.split()) == n


def test_errors_are_shared_by_all_words_said() -> None:
    rate, exact = word_errors(["one two", "three", "four five six"], ["one", "three", "four"])
    assert rate.value == pytest.approx(3 / 6)
    assert exact.value == pytest.approx(1 / 3)
