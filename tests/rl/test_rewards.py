"""Rewards of completions, and what happens where one fails."""

import math

import pytest

from mlx_transformers.core.errors import RecipeError, RunError
from mlx_transformers.rl.response import Response
from mlx_transformers.rl.rewards import Exact, Format, Function, Length, Numeric, Rewards


def answer(completion, n_tokens=3, **record):
    return Response("2+3=", completion, [1, 2], [0] * n_tokens, True, record)


def shorter(prompts, completions, records):
    return [-len(completion) for completion in completions]


def too_few(prompts, completions, records):
    return [1.0]


def too_large(prompts, completions, records):
    return [1e300, -1e300]


def not_a_number(prompts, completions, records):
    return [math.nan for _ in prompts]


def raises(prompts, completions, records):
    raise KeyError("question")


@pytest.mark.parametrize(
    ("kind", "completion", "reward"),
    [
        (Exact(), " 5\n", 1.0),
        (Exact(), "5.", 0.0),
        (Exact(pattern=r"#### (\d+)"), "2 and 3 #### 5", 1.0),
        (Exact(pattern=r"#### (\d+)"), "5", 0.0),
        (Numeric(), "so it is 5", 1.0),
        (Numeric(), "5, or 6", 0.0),
        (Numeric(tolerance=0.5), "5.4", 1.0),
        (Numeric(), "", 0.0),
        (Length(most=3), "abc", 1.0),
        (Length(most=1, slope=4), "abc", 0.5),
        (Length(least=9, most=9), "abc", 0.0),
        (Format(pattern="<a>.*</a>"), "<a>\n5</a>", 1.0),
        (Format(pattern="<a>.*</a>"), "<a>5", 0.0),
        (Function(function=f"{__name__}:shorter"), "abcd", -4.0),
    ],
)
def test_each_kind(kind, completion, reward):
    assert list(kind.build(None)([answer(completion, answer="5")])) == [reward]


def test_the_reward_is_the_weighted_sum():
    kinds = {"right": Exact(weight=2.0), "short": Length(most=2, slope=2, weight=0.5)}
    totals, each = Rewards(kinds, {}, "stop")([answer("5", answer="5"), answer("6", answer="5")])
    assert totals == [2.25, 0.25]
    assert each == {"right": [1.0, 0.0], "short": [0.5, 0.5]}


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("too_few", "returned 1 numbers for 2 completions"),
        ("not_a_number", "is nan, and a reward is a finite number"),
        ("too_large", r"is 1e\+300, .* with its weight at most 1e\+15"),
        ("raises", "KeyError: 'question'"),
    ],
)
def test_a_reward_that_fails_stops_the_run_or_counts_as_zero(function, message):
    kinds = {"mine": Function(function=f"{__name__}:{function}")}
    answers = [answer("5"), answer("6")]
    with pytest.raises(RunError, match=f"The reward 'mine'.*{message}"):
        Rewards(kinds, {}, "stop")(answers)
    lenient = Rewards(kinds, {}, "zero")
    assert lenient(answers)[0] == [0.0, 0.0]
    assert lenient.replaced == 2


def test_what_can_not_work_is_refused_before_a_run_begins():
    with pytest.raises(RecipeError, match="has no function 'nothing'"):
        Function(function=f"{__name__}:nothing").build(None)
    with pytest.raises(RecipeError, match="can't be imported"):
        Function(function="no_such_module_here:f").build(None)
    with pytest.raises(ValueError, match="no regular expression"):
        Format(pattern="(")
    with pytest.raises(ValueError, match="no group"):
        Exact(pattern="x")
    with pytest.raises(RunError, match=r"'answer'.*has question"):
        Exact().build(None)([answer("5", question="?")])
