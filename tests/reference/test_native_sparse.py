"""Native sparse attention against dense attention where it reads everything, and its choice."""

from functools import partial

import mlx.core as mx
from ops.compare import assert_close, assert_same_gradients, draw
from reference_ops.native_sparse import native_sparse

from mlx_transformers.ops.attention import attention_naive
from mlx_transformers.ops.masks import Mask

B, H, G, T, K = 2, 4, 2, 14, 6
SCALE = 0.5


def inputs() -> list[mx.array]:
    return [2 * draw(1, B, H, T, K), draw(2, B, G, T, K), draw(3, B, G, T, K)]


def test_all_blocks_together_are_causal_attention() -> None:
    def selected(q: mx.array, k: mx.array, v: mx.array) -> mx.array:
        return native_sparse(q, k, v, scale=SCALE, block=4, n_blocks=5).selected

    assert_same_gradients(selected, partial(attention_naive, scale=SCALE, mask=Mask()), inputs())


def test_a_query_reads_its_own_block_the_one_before_the_first_and_the_best_of_the_rest() -> None:
    q, k, v = inputs()
    k[:, :, 4:6] = 9 * q[:, ::2, 13:14]  # the heads of a group agree on block 2
    q[:, 1::2] = q[:, ::2]
    found = native_sparse(q, k, v, scale=SCALE, block=2, n_blocks=4)
    chosen = found.chosen[:, :, 13].tolist()
    assert chosen == [[[0, 2, 5, 6]] * G] * B
    assert found.chosen[0, 0, 0].tolist() == [-1, -1, -1, 0]
    assert found.chosen[0, 0, 3].tolist() == [-1, -1, 0, 1]


def test_means_of_blocks_are_read_once_they_are_past() -> None:
    q, k, v = inputs()
    compressed = native_sparse(q, k, v, scale=SCALE, block=4, n_blocks=2).compressed
    assert (compressed[:, :, :3] == 0).all().item()
    mean = mx.repeat(v[:, :, :4].mean(axis=2), H // G, axis=1)
    assert_close(compressed[:, :, 3:7], mx.broadcast_to(mean[:, :, None], (B, H, 4, K)))
