"""Scaled rotary positions against the formulas of their papers, pair by pair."""

import math

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.core.context import Context, Cursor, Layout
from mlx_transformers.core.errors import RecipeError

from . import scalings
from .suite import BATCH, LENGTH, Row, difference, parse

WIDTH, THETA = 8, 50.0
PLAIN = [THETA ** (-2 * i / WIDTH) for i in range(WIDTH // 2)]


def pair_of(turns: float, trained: int) -> float:
    """Where on the axis of pairs one turns so often in `trained` positions."""
    return WIDTH * math.log(trained / (2 * math.pi * turns)) / (2 * math.log(THETA))


def frequency(i: int, kind: dict, length: int) -> float:
    """Radians per position of pair i."""
    plain, trained = PLAIN[i], kind.get("trained_len", 1)
    if kind["kind"] == "inclusive":
        return THETA ** (-i / (WIDTH // 2 - 1))
    if kind["kind"] == "linear":
        return plain / kind["factor"]
    if kind["kind"] == "dynamic":
        s = kind["factor"]
        growth = s * max(length, trained) / trained - (s - 1)
        return (THETA * growth ** (WIDTH / (WIDTH - 2))) ** (-2 * i / WIDTH)
    if kind["kind"] == "llama3":
        wavelength = 2 * math.pi / plain
        low, high = kind.get("low", 1.0), kind.get("high", 4.0)
        if wavelength > trained / low:
            return plain / kind["factor"]
        if wavelength < trained / high:
            return plain
        smooth = (trained / wavelength - low) / (high - low)
        return (1 - smooth) * plain / kind["factor"] + smooth * plain
    if kind["kind"] == "yarn":
        low, high = pair_of(kind["beta_fast"], trained), pair_of(1.0, trained)
        if kind.get("truncate", True):
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, WIDTH - 1)
        ramp = min(max((i - low) / ((high - low) or 0.001), 0), 1)
        return plain / kind["factor"] * ramp + plain * (1 - ramp)
    return plain / (kind["long"] if length > trained else kind["short"])[i]


def size(kind: dict) -> float:
    inferred = 0.1 * math.log(kind["factor"]) + 1 if kind["kind"] == "yarn" else 1.0
    return kind.get("magnitude", inferred)


@pytest.mark.parametrize("row", scalings.ROWS, ids=str)
@pytest.mark.parametrize("offset", [0, 5], ids="from_{}".format)
def test_a_scaling_turns_every_pair_by_its_formula(row: Row, offset: int) -> None:
    subject = row.subject()
    x = subject.inputs()
    y = np.asarray(subject(x, Context(cursor=Cursor(offset=offset))))
    heads = np.asarray(x, dtype=np.float64).reshape(*x.shape[:2], 2, WIDTH)
    where = np.arange(LENGTH) + offset
    expected = np.empty_like(heads)
    for i in range(WIDTH // 2):
        turn = np.exp(1j * where * frequency(i, dict(row.config), LENGTH + offset))
        both = (heads[..., i] + 1j * heads[..., i + WIDTH // 2]) * turn[None, :, None]
        both *= size(dict(row.config))
        expected[..., i], expected[..., i + WIDTH // 2] = both.real, both.imag
    np.testing.assert_allclose(y, expected.reshape(y.shape), atol=1e-5)


@pytest.mark.parametrize("row", scalings.ROWS, ids=str)
def test_given_positions_are_scaled_by_the_largest_of_them(row: Row) -> None:
    subject = row.subject()
    x = subject.inputs()
    given = Context(Layout(positions=mx.broadcast_to(mx.arange(LENGTH) + 3, (BATCH, LENGTH))))
    assert difference(subject(x, given), subject(x, Context(cursor=Cursor(offset=3)))) < 1e-6


def test_longrope_wants_a_divisor_for_every_pair() -> None:
    kind = {"kind": "longrope", "trained_len": 5, "short": [1.0] * 4, "long": [1.0] * 3}
    rope = parse("position", {"kind": "rope", "scaling": kind}).build(16, 32)
    with pytest.raises(RecipeError, match=r"scaling.long has 3 divisors, but 4 pairs"):
        rope.inv_freq(8)
