"""Pools: padding that means and last tokens leave out."""

import mlx.core as mx
import pytest

from contract.suite import parse, randomize
from mlx_transformers.core.context import Context, Layout


@pytest.mark.parametrize("reads", ["mean", "first_mean", "last"])
def test_a_padded_row_is_read_as_it_is_without_padding(reads: str) -> None:
    pool = randomize(parse("pool", {"kind": "sentence", "reads": reads}).build(4), 0)
    x = mx.random.normal((1, 6, 4), key=mx.random.key(0))
    padded = pool(x, Context(Layout(valid=mx.arange(6)[None] < 4)))
    assert mx.allclose(padded, pool(x[:, :4], Context()), atol=1e-6)
