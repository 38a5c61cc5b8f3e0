"""Intervals over seeds, against numbers of tables."""

import math
import statistics

import numpy as np
import pytest

from mlx_transformers.score.seeds import T_95, estimate, paired


def test_the_interval_of_three_seeds_is_students() -> None:
    found = estimate([1.0, 2.0, 4.0])
    assert found.mean == pytest.approx(7 / 3)
    assert found.error == pytest.approx(4.303 * statistics.stdev([1, 2, 4]) / math.sqrt(3))
    assert found.n == 3


@pytest.mark.parametrize("n", [2, 3, 10, 60])
def test_the_interval_covers_the_mean_in_95_of_100_draws(n: int) -> None:
    rng = np.random.default_rng(n)
    found = [estimate(list(rng.normal(1.0, 2.0, n))) for _ in range(4000)]
    covered = np.mean([abs(e.mean - 1.0) <= (e.error or 0) for e in found])
    assert covered == pytest.approx(0.95, abs=0.015)


def test_one_seed_has_no_interval_and_can_not_tell() -> None:
    assert estimate([2.0]).error is None
    assert estimate([2.0]).differs_from_zero is None


def test_differences_are_paired_by_seed() -> None:
    """What seeds have in common drops out; a seed of one side alone is left out."""
    low, high = {1: 1.0, 2: 5.0, 3: 9.0, 4: 0.0}, {3: 9.5, 2: 5.4, 1: 1.6}
    found = paired(high, low)
    assert found is not None
    assert found.n == 3
    assert found.mean == pytest.approx(0.5)
    assert found.differs_from_zero
    assert paired({1: 1.0}, {2: 1.0}) is None


def test_quantiles_fall_towards_those_of_the_normal_distribution() -> None:
    assert list(T_95) == sorted(T_95, reverse=True)
    assert T_95[-1] > 1.96
