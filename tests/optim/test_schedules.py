"""Every schedule, at every update, beside a plain Python formula."""

import math

import mlx.core as mx
import pytest
from pydantic import ValidationError

from mlx_transformers.assembly import registry  # noqa: F401 - fills the slots
from mlx_transformers.optim.schedules import (
    Constant,
    Cosine,
    CosineRestarts,
    InverseSqrt,
    Linear,
    SlantedTriangular,
    Wsd,
)

PEAK, N = 3e-3, 40


def rates(config, n=N, until=N + 5):
    """The rates of the updates 0 .. until - 1, by one function of an array."""
    schedule = mx.compile(config.build(PEAK, n))  # in force where a test is marked so
    return [schedule(mx.array(s, mx.uint64)).item() for s in range(until)]


def warmed(s, w, after):
    return PEAK * ((s + 1) / w if s < w else after)


def progress(s, w, n=N):
    return min(max((s - w) / (n - w), 0.0), 1.0)


def half_cosine(p, f):
    return f + (1 - f) * (1 + math.cos(math.pi * p)) / 2


@pytest.mark.parametrize("w", [0, 1, 7])
def test_constant_holds_the_peak(w):
    expected = [warmed(s, w, 1.0) for s in range(N + 5)]
    assert rates(Constant(warmup=w)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("w", [0, 1, 7])
@pytest.mark.parametrize("f", [0.0, 0.1, 1.0])
def test_linear_and_cosine_follow_their_formulas(w, f):
    p = [progress(s, w) for s in range(N + 5)]
    linear = [warmed(s, w, 1 - (1 - f) * p[s]) for s in range(N + 5)]
    cosine = [warmed(s, w, half_cosine(p[s], f)) for s in range(N + 5)]
    assert rates(Linear(warmup=w, final_fraction=f)) == pytest.approx(linear, rel=1e-5, abs=1e-9)
    assert rates(Cosine(warmup=w, final_fraction=f)) == pytest.approx(cosine, rel=1e-5, abs=1e-9)


def test_inverse_sqrt_is_the_formula_of_the_paper():
    width, w = 64, 8
    config = InverseSqrt(warmup=w)
    schedule = config.build((width * w) ** -0.5, N)
    for t in range(1, N + 1):
        paper = width**-0.5 * min(t**-0.5, t * w**-1.5)
        assert schedule(mx.array(t - 1, mx.uint64)).item() == pytest.approx(paper, rel=1e-6)


def test_inverse_sqrt_without_warmup_starts_at_the_peak():
    expected = [PEAK / math.sqrt(s + 1) for s in range(N + 5)]
    assert rates(InverseSqrt()) == pytest.approx(expected, rel=1e-6)


def test_restarts_begin_each_cycle_at_the_peak_and_grow():
    # 42 updates after the warm-up in cycles of 6, 12 and 24.
    w, f, n, starts, ends = 3, 0.2, 45, [3, 9, 21], [9, 21, 45]
    cycles = list(zip(starts, ends, strict=True))
    expected = []
    for s in range(n):
        after = next((half_cosine((s - a) / (b - a), f) for a, b in cycles if a <= s < b), None)
        expected.append(warmed(s, w, after))
    expected += [PEAK * f] * 5
    config = CosineRestarts(warmup=w, final_fraction=f, cycles=3, growth=2.0)
    got = rates(config, n, n + 5)
    assert got == pytest.approx(expected, rel=1e-5)
    assert [got[s] for s in starts] == pytest.approx([PEAK] * 3)


@pytest.mark.parametrize(("share", "ratio"), [(0.1, 32.0), (0.25, 8.0)])
def test_slanted_triangle_is_the_formula_of_the_paper(share, ratio):
    cut = math.floor(N * share)

    def paper(t):
        p = t / cut if t < cut else 1 - (t - cut) / (cut * (1 / share - 1))
        return PEAK * (1 + p * (ratio - 1)) / ratio

    got = rates(SlantedTriangular(cut_fraction=share, ratio=ratio))
    assert got[: N + 1] == pytest.approx([paper(t) for t in range(N + 1)], rel=1e-5)
    assert got[N:] == pytest.approx([PEAK / ratio] * 5, rel=1e-5)
    assert max(got) == got[cut] == pytest.approx(PEAK)


def test_one_restart_cycle_is_the_cosine():
    assert rates(CosineRestarts(warmup=5)) == rates(Cosine(warmup=5))


@pytest.mark.parametrize("shape", ["linear", "exponential", "sqrt"])
def test_wsd_stays_at_the_peak_then_falls(shape):
    w, f, length = 4, 0.1, 10
    form = {
        "linear": lambda q: 1 - (1 - f) * q,
        "exponential": lambda q: f**q,
        "sqrt": lambda q: 1 - (1 - f) * math.sqrt(q),
    }[shape]
    expected = []
    for s in range(N + 5):
        q = min(max((s - (N - length)) / length, 0.0), 1.0)
        expected.append(warmed(s, w, form(q)))
    config = Wsd(warmup=w, final_fraction=f, decay_fraction=0.25, shape=shape)
    assert rates(config) == pytest.approx(expected, rel=1e-5)


@pytest.mark.compiled
@pytest.mark.parametrize(
    "config",
    [
        Constant(warmup=10),
        Linear(warmup=10),
        Cosine(warmup=10),
        CosineRestarts(warmup=10, cycles=2),
        InverseSqrt(warmup=10),
        Wsd(warmup=10),
    ],
    ids=lambda c: c.kind,
)
def test_no_update_of_the_run_is_wasted_on_a_rate_of_zero(config):
    got = rates(config, until=N)
    assert min(got) > 0
    assert got[0] == pytest.approx(PEAK / 10)
    assert got[9] == pytest.approx(PEAK)
    assert max(got) == pytest.approx(PEAK)


def test_a_run_shorter_than_its_warmup_ends_inside_it():
    got = rates(Cosine(warmup=100), n=20, until=20)
    assert got == pytest.approx([PEAK * (s + 1) / 100 for s in range(20)], rel=1e-6)


def test_a_decay_of_no_length_is_a_plateau():
    assert rates(Wsd(decay_fraction=0.0)) == rates(Constant())


def test_exponential_decay_to_zero_is_refused():
    with pytest.raises(ValidationError, match="final_fraction above 0"):
        Wsd(shape="exponential")


def test_negative_warmup_is_refused():
    with pytest.raises(ValidationError):
        Linear(warmup=-1)
