"""The calculator computes arithmetic, and nothing else."""

import math

import pytest

from mlx_transformers.chat.calculator import calculate
from mlx_transformers.core.errors import RunError


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("12 * (3 + 4.5)", "90"),
        ("1/3", "0.333333333333"),
        ("-2**2", "-4"),
        ("2**3**2", "512"),
        ("2 ^ 10 =", "1024"),
        ("1,250 × 2 − 10 ÷ 4", "2497.5"),
        ("7 // 2 + 7 % 4 - -1", "7"),
        ("0.1 + 0.2", "0.3"),
        ("sqrt(16) + abs(-2)", "6"),
        ("5! / 3!", "20"),
        ("round(2.6) + floor(-0.5)", "2"),
        ("pi", f"{math.pi:.12g}"),
        ("12345678901234567890 * 10", "123456789012345678900"),
        ("4 ** 0.5", "2"),
    ],
)
def test_expressions_have_their_value(expression, value):
    assert calculate(expression) == value


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("__import__('os')", "no arithmetic"),
        ("open(1)", "no number and no function"),
        ("1/0", "division by zero"),
        ("9**9**9", "too large"),
        ("10**4000 * 10**4000", "too large"),
        ("(-8) ** 0.5", "not a real number"),
        ("2 +", "incomplete"),
        ("(2", "not closed"),
        ("2 2", "wrong place"),
        ("sqrt 2", "needs brackets"),
        ("2000!", "from 0 to 1000"),
        ("log(0)", "no value"),
        ("(" * 99 + "1", "too many brackets"),
        ("1+" * 200 + "1", "more than 300"),
        ("", "incomplete"),
    ],
)
def test_what_is_no_arithmetic_is_refused(expression, words):
    with pytest.raises(RunError, match=words):
        calculate(expression)
