"""Attention free sums and product keys against their definitions."""

import mlx.core as mx
import pytest

from mlx_transformers.ops.attention_free import attention_free, attention_free_naive
from mlx_transformers.ops.product_keys import best_keys, best_keys_naive

from .compare import assert_close, assert_same_gradients, draw

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
