"""Nyström attention and Linformer: against the formula, padding, and the exact limit."""

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.ops.attention import attention_naive
from mlx_transformers.ops.linformer import linformer_attention
from mlx_transformers.ops.masks import Mask
from mlx_transformers.ops.nystrom import depthwise_conv, nystrom_attention, pseudo_inverse

B, H, T, K = 2, 2, 8, 4


def heads(length: int = T) -> list[mx.array]:
    return [mx.random.normal((B, H, length, K), key=mx.random.key(i)) for i in range(3)]


@pytest.mark.parametrize("start", ["matrix", "batch"])
def test_iterations_approach_the_inverse(start: str) -> None:
    scores = 2 * mx.random.normal((B, H, 5, 5), key=mx.random.key(0)) + 4 * mx.eye(5)
    a = mx.softmax(scores, axis=-1)
    exact = np.linalg.pinv(np.asarray(a))
    np.testing.assert_allclose(pseudo_inverse(a, 12, start), exact, rtol=1e-2, atol=1e-2)


def test_as_many_landmarks_as_tokens_are_softmax_attention() -> None:
    q, k, v = heads()
    q = 3 * k  # a kernel matrix that is far from singular
    got = nystrom_attention(q, k, v, n_landmarks=T, iterations=30, scale=1.0)
    want = attention_naive(q, k, v, scale=1.0, mask=Mask(causal=False))
    np.testing.assert_allclose(got, want, rtol=1e-2, atol=1e-2)


def test_the_formula_with_padding() -> None:
    valid = np.arange(6)[None] < np.array([[6], [4]])
    q, k, v = heads(6)
    got = nystrom_attention(q, k, v, n_landmarks=4, iterations=6, scale=0.5, valid=mx.array(valid))
    for b in range(B):
        real = np.concatenate([[False, False], valid[b]])  # padded in front to 4 landmarks of 2
        count = real.reshape(4, 2).sum(axis=-1)
        for h in range(H):
            x, y, z = (
                np.where(real[:, None], np.pad(np.asarray(a[b, h]), ((2, 0), (0, 0))), 0)
                for a in (0.5 * q, k, v)
            )
            marks = [a.reshape(4, 2, K).sum(axis=1) / (count[:, None] + 1e-8) for a in (x, y)]

            def soft(scores, rows, columns):
                scores = np.where(rows[:, None] & columns[None], scores, -1e30)
                e = np.exp(scores - scores.max(axis=-1, keepdims=True))
                return e / e.sum(axis=-1, keepdims=True)

            exists = count > 0
            between = soft(marks[0] @ marks[1].T, exists, exists)
            inverse = np.asarray(pseudo_inverse(mx.array(between)[None, None], 6))[0, 0]
            want = soft(x @ marks[1].T, real, exists) @ inverse
            want = want @ (soft(marks[0] @ y.T, exists, real) @ z)
            np.testing.assert_allclose(got[b, h], want[2:], rtol=1e-4, atol=1e-4)


def test_the_convolution_runs_over_time_within_each_head() -> None:
    v, weight = heads()[2], mx.random.normal((H, 3), key=mx.random.key(5))
    padded = np.pad(np.asarray(v), ((0, 0), (0, 0), (1, 1), (0, 0)))
    want = sum(
        padded[:, :, i : i + T] * np.asarray(weight)[None, :, i, None, None] for i in range(3)
    )
    np.testing.assert_allclose(depthwise_conv(v, weight), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("per_head", [False, True])
def test_linformer_attends_compressed_keys_and_values(per_head: bool) -> None:
    q, k, v = heads()
    shape = (H, 3, 10) if per_head else (3, 10)
    e, f = (mx.random.normal(shape, key=mx.random.key(i)) for i in (7, 8))
    keys, values = ((a if per_head else a[None])[..., :T] @ b for a, b in ((e, k), (f, v)))
    want = mx.softmax(0.5 * q @ keys.swapaxes(-1, -2), axis=-1) @ values
    np.testing.assert_allclose(linformer_attention(q, k, v, e, f, scale=0.5), want, atol=1e-5)
    valid = mx.array([[True] * 5 + [False] * 3] * B)
    cut = linformer_attention(q, k[:, :, :5], v[:, :, :5], e, f, scale=0.5)
    got = linformer_attention(q, k, v, e, f, scale=0.5, valid=valid)
    np.testing.assert_allclose(got, cut, atol=1e-5)
