"""Taking arrays apart against autodiff's way, and what it holds meanwhile."""

from collections.abc import Callable
from functools import partial

import mlx.core as mx
import pytest

from mlx_transformers.ops.unstack import split_last, split_last_naive, unstack, unstack_naive

FORMS = [(unstack, unstack_naive), (partial(split_last, n=3), partial(split_last_naive, n=3))]


@pytest.mark.parametrize("length", [1, 2, 5])
@pytest.mark.parametrize(("fast", "naive"), FORMS, ids=["unstack", "split_last"])
def test_pieces_and_gradients_are_those_of_autodiff(
    fast: Callable, naive: Callable, length: int
) -> None:
    x = mx.random.normal((2, length, 6), key=mx.random.key(0))

    def total(f: Callable, x: mx.array) -> mx.array:
        # The last piece is used twice, and by one more than the others.
        pieces = f(x)
        return sum((i + 1) * mx.tanh(p).sum() for i, p in enumerate(pieces)) + pieces[-1].sum()

    for a, b in zip(fast(x), naive(x), strict=True):
        assert mx.array_equal(a, b)
    ours, theirs = mx.grad(partial(total, fast))(x), mx.grad(partial(total, naive))(x)
    assert mx.allclose(ours, theirs, atol=1e-6)


def test_a_piece_that_nobody_reads_gets_a_gradient_of_zeros() -> None:
    x = mx.ones((2, 3, 4))
    g = mx.grad(lambda x: unstack(x)[1].sum())(x)
    assert mx.array_equal(g.sum(axis=(0, 2)), mx.array([0.0, 8.0, 0.0]))


def test_the_gradient_never_holds_more_than_a_few_arrays_of_the_whole_size() -> None:
    x = mx.random.normal((8, 64, 256))
    mx.eval(x)

    def peak(f: Callable[[mx.array], list[mx.array]]) -> float:
        before = mx.get_active_memory()
        mx.reset_peak_memory()
        mx.eval(mx.grad(lambda x: sum(mx.tanh(p).sum() for p in f(x)))(x))
        return (mx.get_peak_memory() - before) / x.nbytes

    limit = mx.set_memory_limit(1)  # evaluation runs no further ahead: the peak is the least one
    try:
        assert peak(unstack) < 4 < peak(unstack_naive)
    finally:
        mx.set_memory_limit(limit)
