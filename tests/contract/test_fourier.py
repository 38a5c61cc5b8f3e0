"""Fourier mixing against the sums of its definition, in NumPy."""

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.core.context import Context
from mlx_transformers.core.errors import RunError

from .suite import parse


def test_it_is_the_real_part_of_the_sums_over_both_axes() -> None:
    x = np.random.default_rng(0).standard_normal((2, 5, 6))

    def waves(n: int) -> np.ndarray:
        return np.exp(-2j * np.pi * np.outer(np.arange(n), np.arange(n)) / n)

    expected = np.einsum("st,btd,de->bse", waves(5), x, waves(6)).real
    y = parse("mixer", {"kind": "fourier"}).build(6)(mx.array(x.astype(np.float32)), Context())
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


def test_it_does_not_decode() -> None:
    with pytest.raises(RunError, match="needs the whole sequence"):
        parse("mixer", {"kind": "fourier"}).build(6).init_state(1, 4, mx.float32)
