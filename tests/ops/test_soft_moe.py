"""Soft mixtures of experts: padding is read by no slot, even where a row has nothing else."""

import mlx.core as mx
import numpy as np

from mlx_transformers.ops.soft_moe import soft_slots


def test_a_row_of_padding_has_a_finite_gradient_and_leaves_the_others_alone() -> None:
    x, logits = mx.random.normal((2, 3, 4)), mx.random.normal((2, 3, 5))
    valid = mx.array([[True, True, False], [False, False, False]])

    def total(x: mx.array, logits: mx.array) -> mx.array:
        slots, combine = soft_slots(x, logits, valid)
        return mx.square(combine @ slots).sum()

    assert all(mx.isfinite(g).all() for g in mx.grad(total, argnums=(0, 1))(x, logits))
    slots, _ = soft_slots(x, logits, valid)
    alone, _ = soft_slots(x[:1, :2], logits[:1, :2])
    np.testing.assert_allclose(slots[:1], alone, rtol=1e-6)


def test_padding_reads_all_slots_alike() -> None:
    x, logits = mx.random.normal((1, 3, 4)), mx.random.normal((1, 3, 5))
    _, combine = soft_slots(x, logits, mx.array([[True, False, True]]))
    np.testing.assert_allclose(combine[0, 1], np.full(5, 0.2), rtol=1e-6)
    np.testing.assert_allclose(combine[0, 2], mx.softmax(logits[0, 2]), rtol=1e-5)
