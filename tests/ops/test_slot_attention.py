"""Gated slot attention by chunks against its definition in NumPy, token by token."""

import mlx.core as mx
import numpy as np

from mlx_transformers.ops.slot_attention import slot_attention, slot_attention_naive

from .compare import assert_close, assert_same_gradients, draw

B, H, T, K, V, N = 2, 2, 11, 4, 3, 5


def inputs() -> list[mx.array]:
    q, k, v = draw(0, B, H, T, K), draw(1, B, H, T, K), draw(2, B, H, T, V)
    decay = -mx.abs(draw(3, B, H, T, N))
    return [q, k, v, 1 - mx.exp(decay), decay, draw(4, B, H, N, K), draw(5, B, H, N, V)]


def test_slots_are_those_of_the_formula() -> None:
    q, k, v, s, g, keys, values = (np.asarray(x).astype(np.float64) for x in inputs())
    outs = []
    for t in range(T):
        fade = np.exp(g[:, :, t, :, None])
        keys = keys * fade + s[:, :, t, :, None] * k[:, :, t, None]
        values = values * fade + s[:, :, t, :, None] * v[:, :, t, None]
        scores = np.exp(0.5 * np.einsum("bhnk,bhk->bhn", keys, q[:, :, t]))
        weights = scores / scores.sum(-1, keepdims=True)
        outs.append(np.einsum("bhn,bhnv->bhv", weights, values))
    *arrays, first, second = inputs()
    out, last = slot_attention(*arrays, scale=0.5, state=(first, second), chunk=4)
    assert_close(out, np.stack(outs, axis=2))
    assert_close(last[0], keys)
    assert_close(last[1], values)


def test_chunks_are_the_recurrence() -> None:
    starts = mx.arange(T) == mx.array([[4], [7]])

    def run(form: object, **options: object) -> object:
        def of(*arrays: mx.array) -> mx.array:
            *rest, keys, values = arrays
            out, last = form(*rest, scale=0.5, state=(keys, values), starts=starts, **options)
            return mx.concatenate([out.flatten(), *(x.flatten() for x in last)])

        return of

    assert_same_gradients(run(slot_attention, chunk=4), run(slot_attention_naive), inputs(), 1e-5)
