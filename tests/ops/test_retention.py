"""The parallel form of retention against the recurrence, up to the scale of a row."""

import mlx.core as mx

from mlx_transformers.ops.linear_attention import linear_attention_naive
from mlx_transformers.ops.masks import Mask
from mlx_transformers.ops.retention import retention_log_decays, retention_parallel

from .compare import assert_close, draw

B, H, T, K, V = 2, 3, 9, 4, 5


def test_all_pairs_are_the_recurrence_up_to_a_factor_of_each_row() -> None:
    q, k, v = draw(0, B, H, T, K), draw(1, B, H, T, K), draw(2, B, H, T, V)
    starts = mx.arange(T) == mx.array([[4], [7]])
    segments = mx.cumsum(starts.astype(mx.int32), axis=1)
    decay = mx.broadcast_to(mx.array(retention_log_decays(H))[None, :, None], (1, H, T))
    naive, _ = linear_attention_naive(q, k, v, decay, scale=0.5, starts=starts)
    pairs = retention_parallel(q, k, v, scale=0.5, mask=Mask(segments=segments))

    def direction(x: mx.array) -> mx.array:
        return x / mx.linalg.norm(x, axis=-1, keepdims=True)

    assert_close(direction(pairs), direction(naive))


def test_rates_are_those_of_the_paper() -> None:
    assert_close(mx.exp(mx.array(retention_log_decays(3))), [1 - 1 / 32, 1 - 1 / 64, 1 - 1 / 128])
