"""Each transform puts numbers where its layout says, and undoes itself exactly."""

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.convert.odd_layouts import Resplit, Unbalanced
from mlx_transformers.convert.transforms import (
    Add,
    Chain,
    Grouped,
    Mirrored,
    Pairs,
    Reshape,
    Same,
    Split,
    SplitGroups,
    SplitWithin,
    Stack,
    Transform,
    Transpose,
)
from mlx_transformers.core.errors import ConvertError

CASES: list[tuple[Transform, list[tuple[int, ...]]]] = [
    (Same(), [(3, 4)]),
    (Transpose(), [(3, 4)]),
    (Transpose(), [(3,)]),
    (Split((4, 2, 2)), [(8, 5)]),
    (Split((4, 2, 2)), [(8,)]),
    (Split((1, 3), axis=1), [(2, 4)]),
    (SplitGroups(4, 2, 3), [(24, 5)]),
    (SplitGroups(4, 4, 3), [(36,)]),
    (SplitWithin(2, (1, 3)), [(8, 5)]),
    (Pairs(2), [(12, 5)]),
    (Pairs(3), [(12,)]),
    (Stack(), [(2, 3), (2, 3), (2, 3)]),
    (Add(1.0), [(4,)]),
    (Reshape((1, 1, 4), (4,)), [(1, 1, 4)]),
    (Grouped(2), [(6, 3, 1)]),
    (Mirrored(2), [(8, 3)]),
    (Mirrored(1), [(4,)]),
    (Grouped(1), [(6,)]),
    (Unbalanced(), [(3, 4)]),
    (Resplit((2, 3), Transpose()), [(4, 2), (4, 3)]),
    (Chain(Transpose(), Split((4, 2, 2))), [(5, 8)]),
]


@pytest.mark.parametrize(("transform", "shapes"), CASES)
def test_a_transform_undoes_itself(transform: Transform, shapes: list[tuple[int, ...]]) -> None:
    rng = np.random.default_rng(0)
    theirs = [mx.array(rng.integers(-9, 9, shape).astype(np.float32)) for shape in shapes]
    back = transform.save(transform.load(theirs))
    assert len(back) == len(theirs)
    for x, y in zip(theirs, back, strict=True):
        assert x.shape == y.shape
        assert mx.array_equal(x, y)


def test_a_matrix_that_looks_beyond_its_groups_is_not_cut() -> None:
    with pytest.raises(ConvertError, match="A map of 2 groups has learned to look beyond them"):
        Grouped(2).save([mx.ones((4, 6))])


def test_groups_hold_queries_then_a_key_then_a_value() -> None:
    # Two groups of two queries each, heads of one feature: q0 q1 k0 v0 q2 q3 k1 v1.
    q, k, v = SplitGroups(4, 2, 1).load([mx.arange(8)])
    assert (q.tolist(), k.tolist(), v.tolist()) == ([0, 1, 4, 5], [2, 6], [3, 7])


def test_pairs_become_halves() -> None:
    [x] = Pairs(2).load([mx.array([0, 1, 2, 3, 10, 11, 12, 13])])
    assert x.tolist() == [0, 2, 1, 3, 10, 12, 11, 13]


def test_a_bias_of_balance_that_a_layout_lacks_is_not_dropped() -> None:
    gate, balance = Unbalanced().load([mx.ones((3, 4))])
    assert balance.tolist() == [0, 0, 0]
    with pytest.raises(ConvertError, match="learned a bias that balances its experts"):
        Unbalanced().save([gate, balance + 0.1])


def test_tensors_that_were_cut_elsewhere_are_cut_anew() -> None:
    rows = mx.arange(10).reshape(5, 2)
    first, second = Resplit((2, 3), Same()).load([rows[:3], rows[3:]])
    assert mx.array_equal(first, rows[:2])
    assert mx.array_equal(second, rows[2:])
