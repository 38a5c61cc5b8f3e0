"""sLSTM and minGRU against their formulas in NumPy, in float64."""

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.ops.mingru import mingru
from mlx_transformers.ops.slstm import ScalarMemory, slstm

from .compare import assert_close, draw, numpy64

BATCH, LENGTH, HEADS, WIDTH = 2, 7, 2, 3
DIM = HEADS * WIDTH


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def plain_slstm(wx: np.ndarray, recurrent: np.ndarray) -> np.ndarray:
    """Equations 8 to 10 of the paper as they stand, without a running maximum."""
    h = c = n = np.zeros((BATCH, DIM))
    outs = []
    for t in range(LENGTH):
        heads = h.reshape(BATCH, HEADS, WIDTH)
        read = np.einsum("bhk,hgk->bhg", heads, recurrent)
        read = read.reshape(BATCH, HEADS, 4, WIDTH).swapaxes(1, 2).reshape(BATCH, 4, DIM)
        i, f, z, o = (wx[:, t].reshape(BATCH, 4, DIM) + read).swapaxes(0, 1)
        c = sigmoid(f) * c + np.exp(i) * np.tanh(z)
        n = sigmoid(f) * n + np.exp(i)
        h = sigmoid(o) * c / n
        outs.append(h)
    return np.stack(outs, axis=1)


@pytest.mark.parametrize("size", [1.0, 5.0])
def test_a_scaled_slstm_is_the_formula(size: float) -> None:
    wx, recurrent = size * draw(0, BATCH, LENGTH, 4 * DIM), draw(1, HEADS, 4 * WIDTH, WIDTH)
    out, last = slstm(wx, recurrent, ScalarMemory.empty(BATCH, DIM))
    assert_close(out, plain_slstm(numpy64(wx), numpy64(recurrent)), 2e-5)
    assert_close(last.h, out[:, -1])


def test_gates_of_any_size_stay_finite() -> None:
    wx, recurrent = 300 * draw(0, BATCH, LENGTH, 4 * DIM), draw(1, HEADS, 4 * WIDTH, WIDTH)
    empty = ScalarMemory.empty(BATCH, DIM)
    grads = mx.grad(lambda *a: slstm(*a, empty)[0].sum(), argnums=(0, 1))(wx, recurrent)
    assert all(bool(mx.isfinite(g).all()) for g in grads)


def test_a_mingru_is_the_formula() -> None:
    candidate, gate, h = draw(0, 2, 9, 3), draw(1, 2, 9, 3), draw(2, 2, 3)
    out, last = mingru(candidate, gate, h)
    x, state, outs = numpy64(candidate), numpy64(h), []
    z = sigmoid(numpy64(gate))
    for t in range(9):
        new = np.where(x[:, t] >= 0, x[:, t] + 0.5, sigmoid(x[:, t]))
        state = (1 - z[:, t]) * state + z[:, t] * new
        outs.append(state)
    assert_close(out, np.stack(outs, axis=1))
    assert_close(last, state)
