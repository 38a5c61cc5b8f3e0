"""Metrics of answers: choices, extraction, calibration, correlation, pass@k."""

import itertools

import numpy as np
import pytest

from mlx_transformers.core.errors import RunError
from mlx_transformers.decode.windows import rolling_windows, strided_windows
from mlx_transformers.score.calibration import brier, calibration, log_softmax, nll
from mlx_transformers.score.choices import Choices, standard_error
from mlx_transformers.score.classes import confusion, f1
from mlx_transformers.score.correlation import pearson, ranks, spearman
from mlx_transformers.score.extract import GSM8K, GSM8K_FLEXIBLE, GSM8K_STRICT, majority
from mlx_transformers.score.pass_at_k import pass_at_k
from mlx_transformers.score.spans import squad


def test_choices_are_compared_per_character_byte_and_against_no_question():
    choices = Choices(
        ["no", "certainly", "ÄÖÜ"],
        np.array([-1.0, -2.0, -1.2]),
        (1,),
        [False, True, False],
        np.array([-0.5, -9.0, -1.0]),
    )
    assert choices.marks() == {
        "acc": 0,
        "acc_norm": 1,
        "acc_bytes": 0,
        "acc_mutual_info": 1,
        "exact_match": 1,
    }
    even = Choices(["a", "b"], np.zeros(2), (0, 1))
    assert even.marks() == {"acc": 1, "acc_norm": 1, "acc_bytes": 1}
    assert Choices(["a", "b"], np.zeros(2), (1,)).brier() == pytest.approx(0.5)
    assert standard_error([1, 0, 0, 1]) == pytest.approx((1 / 3) ** 0.5 / 2)


def test_numbers_are_taken_from_solutions():
    text = "2 boxes cost $1,250.\n#### 1,250"
    assert (GSM8K_STRICT(text), GSM8K_FLEXIBLE("so 7 or $45")) == ("1,250", "$45")
    assert GSM8K_STRICT("7") == "[invalid]"
    assert GSM8K.same("1,250", "They pay.\n#### 1250")
    assert not GSM8K.same("12", "#### 125")
    assert majority(["[invalid]", "4", "7", "4", "[invalid]", "[invalid]"]) == "4"


def test_calibration_is_the_gap_of_each_bin():
    found = calibration(np.array([0.95, 0.85, 0.2, 1.0]), np.array([1, 0, 0, 1]), bins=2)
    # The upper bin has 0.9 against 1/2; a confidence of 1 has a bin of its own.
    assert found.ece == pytest.approx((0.4 * 2 + 0.2) / 4)
    assert found.mce == pytest.approx(0.4)
    logits = np.array([[0.0, 0.0], [3.0, 0.0]])
    assert brier(np.exp(log_softmax(logits)), np.array([0, 0]))[0] == pytest.approx(0.5)
    assert nll(log_softmax(logits), np.array([1, 1]))[0] == pytest.approx(np.log(2))


def test_equal_numbers_share_their_rank():
    assert ranks(np.array([2.0, 1, 2, 5])).tolist() == [2.5, 1, 2.5, 4]
    a = np.array([1.0, 2, 3, 4])
    assert (pearson(a, -a), spearman(a, a**3), pearson(a, a * 0)) == (-1, 1, 0)


def test_f1_averages():
    table = confusion(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 1]), 3)
    assert f1(table) == pytest.approx(0.5)
    assert f1(table, "micro") == pytest.approx(0.5)
    assert f1(table, "macro") == pytest.approx((2 / 3 + 0.5) / 3)
    assert f1(table, "weighted") == pytest.approx((2 * 2 / 3 + 0.5) / 4)


def test_pass_at_k_is_the_share_of_draws_with_a_right_one():
    draws = list(itertools.combinations([1, 1, 0, 0, 0], 2))
    assert pass_at_k(5, 2, 2) == pytest.approx(np.mean([any(draw) for draw in draws]))
    assert pass_at_k(5, 4, 2) == 1
    with pytest.raises(RunError, match="at least"):
        pass_at_k(5, 4, 6)


def test_the_best_accepted_answer_counts():
    assert squad(["1889", "in the year 1889"], "In 1889!") == (0.0, pytest.approx(0.8))
    assert squad(["The end", "x"], "an end") == (1.0, 1.0)


def test_windows_score_each_token_once():
    tokens = list(range(20))
    for windows in (rolling_windows([99], tokens, 6), rolling_windows([99], tokens, 6, context=4)):
        assert [t for w in windows for t in w.tokens[-w.scored :]] == tokens
        assert max(len(w.tokens) for w in windows) <= 7
    windows = strided_windows(tokens, 8, 4)
    assert [t for w in windows for t in w.tokens[-w.scored :]] == tokens
    assert [len(w.tokens) - w.scored for w in windows] == [0, 4, 4, 4]
