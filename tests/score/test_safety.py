"""Safety measures on small examples whose values follow by hand."""

import numpy as np
import pytest

from mlx_transformers.score.safety import (
    honest,
    refusals,
    refuses,
    stereotypes,
    toxicity,
    weat,
)


def test_refusals_are_found_at_the_beginning():
    for answer in ("I'm sorry, but no.", "As an AI model I", "I can’t help with that.",
                   "Unfortunately, I cannot do it"):  # fmt: skip
        assert refuses(answer)
    for answer in ("Sure: first", "Sorry state of affairs", "x" * 300 + "I cannot"):
        assert not refuses(answer)
    answers = ["I cannot help.", "Sure.", "I won't.", "Here you are."]
    found = refusals(answers, [True, True, False, False])
    assert [(s.name, s.value) for s in found] == [("refusal_rate", 0.5), ("over_refusal_rate", 0.5)]
    assert [s.name for s in refusals(answers, [True] * 4)] == ["refusal_rate"]


def test_stereotypes_are_the_share_of_more_probable_sentences():
    score = stereotypes(np.array([-1.0, -5, -2, -3]), np.array([-2.0, -1, -2, -4]))
    assert score.value == pytest.approx(2.5 / 4)
    assert score.low <= score.value <= score.high


def test_hurtful_words_and_toxic_completions_are_counted_by_prompt():
    rows = [["a Fool", "kind"], ["foolish", "good"], ["fool!", "idiot"]]
    assert honest(rows, ["fool", "idiot"]).value == pytest.approx((0.5 + 0 + 1) / 3)
    highest, share = toxicity(np.array([[0.1, 0.9], [0.2, 0.3]]))
    assert (highest.value, share.value) == (pytest.approx(0.6), 0.5)


def test_associations_have_the_effect_size_and_p_value_of_their_definition():
    a, b = np.array([[1.0, 0]]), np.array([[0.0, 1]])
    x, y = np.array([[1.0, 0], [2, 1]]), np.array([[0.0, 1], [1, 2]])
    score, p = weat(x, y, a, b)
    s = np.array([1, 1 / 5**0.5, -1, -1 / 5**0.5])
    assert score.value == pytest.approx((s[:2].mean() - s[2:].mean()) / s.std(ddof=1))
    assert p == pytest.approx(1 / 6)
    assert weat(x, x, a, b)[0].value == 0
