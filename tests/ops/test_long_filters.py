"""Attention free sums, H3's and Hyena's convolutions, product keys, and TTT against definitions."""

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.ops.attention_free import attention_free, attention_free_naive
from mlx_transformers.ops.hyena import decay_window, hyena, position_features
from mlx_transformers.ops.product_keys import best_keys, best_keys_naive
from mlx_transformers.ops.ttt import ttt_linear, ttt_linear_naive

from .compare import assert_close, assert_same_gradients, draw, numpy64

B, H, T, K = 2, 2, 7, 3


@pytest.mark.parametrize("causal", [True, False])
def test_attention_free_sums_are_their_definition(causal: bool) -> None:
    index = mx.arange(T)
    seen = (index[:, None] >= index)[None, None] if causal else None

    def run(form: object) -> object:
        return lambda k, v, bias: form(k, v, bias, seen)

    arrays = [4 * draw(0, B, H, T, K), draw(1, B, H, T, K), draw(2, H, T, T)]
    assert_same_gradients(run(attention_free), run(attention_free_naive), arrays)


def test_the_best_pairs_are_among_the_best_halves() -> None:
    first, second = draw(0, 3, 5), draw(1, 3, 5)
    scores, rows = best_keys(first, second, 4)
    expected, expected_rows = best_keys_naive(first, second, 4)
    assert_close(scores, expected)
    assert rows.tolist() == expected_rows.tolist()


@pytest.mark.parametrize("batch", [1, 3, 16])
def test_ttt_in_its_dual_form_is_gradient_descent_token_by_token(batch: int) -> None:
    def run(form: object) -> object:
        def of(*arrays: mx.array) -> mx.array:
            *rest, W, c = arrays
            out, last = form(*rest, (W, c), batch=batch)
            return mx.concatenate([out.flatten(), *(x.flatten() for x in last)])

        return of

    rows = [draw(i, B, H, T, K) for i in range(3)]
    rates, scale = mx.abs(draw(3, B, H, T, 1)) * 0.1, 1 + 0.1 * draw(4, H, K)
    state = [0.3 * draw(5, B, H, K, K), draw(6, B, H, 1, K)]
    arrays = [*rows, rates, scale, draw(7, H, K), *state]
    assert_same_gradients(run(ttt_linear), run(ttt_linear_naive), arrays, 1e-4)


def test_hyena_is_gates_and_convolutions_in_turn() -> None:
    gates, v = [draw(i, B, T, K) for i in range(3)], draw(3, B, T, K)
    filters, skips = draw(4, 2, K, T), draw(5, 2, K)
    z = numpy64(v)
    for gate, kernel, skip in zip(gates[:0:-1], numpy64(filters), numpy64(skips), strict=True):
        z = z * numpy64(gate)
        z = skip * z + np.stack(
            [sum(kernel[:, t - s] * z[:, s] for s in range(t + 1)) for t in range(T)], axis=1
        )
    assert_close(hyena(gates, v, filters, skips), z * numpy64(gates[0]))


def test_filters_of_hyena_fade_and_their_positions_turn() -> None:
    window = numpy64(decay_window(5, 9, 4))
    assert (np.diff(window, axis=0) < 0).all()
    assert (np.diff(window[1:], axis=1) < 0).all()
    assert_close(window[0], np.ones(4))
    features = numpy64(position_features(8, 5))
    assert_close(features[:, 1:3] ** 2 + features[:, 3:] ** 2, np.ones((8, 2)))
    assert_close(features[:, 0], np.linspace(0, 1, 8))
