"""Linear attention with one decay per head by chunks, and its gradients.

With the state S before a chunk and the sums s of log-decays since then,

    W_ij = (q_i · k_j) exp(s_i - s_j)                  o_i = Σ_j W_ij v_j + exp(s_i) Sᵀ q_i
    S' = exp(s_M) S + Σ_j k_j exp(s_M - s_j) v_jᵀ

Heads of a group share the products of their queries and keys (state space duality: Dao and Gu 2024,
section 6). The gradient of a sum is found without those of its exponentials, from what it scales:
`o_i · do_i` where token i reads, and `-v_j · dv_j` where token j is read.
"""

from typing import NamedTuple

import mlx.core as mx

from .chunks import Chunks, chunk_states, chunk_states_vjp, pair_decays
from .custom_vjp import custom_vjp
from .sums import row_sum


class _Decays(NamedTuple):
    """Decays within a chunk: of pairs, from its first state, to its last one, and of the state."""

    pairs: mx.array
    from_state: mx.array
    to_state: mx.array
    carry: mx.array


def head_decay_attention(
    chunks: Chunks,
    before: bool,
    q: mx.array,
    k: mx.array,
    v: mx.array,
    log_decay: mx.array,
    state: mx.array,
) -> list[mx.array]:
    """Output and last state of `linear_attention` in float32; queries are scaled.

    The backward pass computes the chunks from the arguments alone.

    Args:
        log_decay: `[1 or B, 1 or H, T]`.
    """

    heads = v.shape[1]

    def forward(
        q: mx.array, k: mx.array, v: mx.array, log_decay: mx.array, state: mx.array
    ) -> list[mx.array]:
        q, k, v, g = (chunks.split(x) for x in (q, k, v, log_decay[..., None]))
        decays = _decays(chunks, before, g)
        states, last = chunk_states(decays.carry, _by_group(k.mT, decays.to_state * v), state)
        weights = _by_head(q @ k.mT, heads) * decays.pairs
        return [chunks.join(weights @ v + decays.from_state * _by_group(q, states)), last]

    def backward(
        primals: tuple[mx.array, ...], cotangents: list[mx.array], outputs: list[mx.array]
    ) -> tuple[mx.array, ...]:
        *_, log_decay, state = primals
        q, k, v, g = (chunks.split(x) for x in (*primals[:3], log_decay[..., None]))
        d, d_last = chunks.split(cotangents[0]), cotangents[1]
        groups = q.shape[2]
        decays = _decays(chunks, before, g)
        written, read = decays.to_state * v, decays.from_state * d
        states, last = chunk_states(decays.carry, _by_group(k.mT, written), state)
        weights = _by_head(q @ k.mT, heads) * decays.pairs
        out = weights @ v + decays.from_state * _by_group(q, states)

        d_states = _by_group(q.mT, read)
        _, d_write, d_state = chunk_states_vjp(decays.carry, states, d_states, d_last)
        dv = weights.mT @ d + decays.to_state * _by_group(k, d_write)
        d_products = _of_group((d @ v.mT) * decays.pairs, groups)
        dq = d_products @ k + _of_group(read @ states.mT, groups)
        dk = d_products.mT @ q + _of_group(written @ d_write.mT, groups)

        d_until, d_since = (chunks.join(row_sum(x))[..., 0] for x in (d * out, v * dv))
        d_decay = mx.cumsum(d_until - d_since, axis=2, reverse=True)
        d_decay = d_decay + row_sum((d_last * last).flatten(2))
        d_decay = _summed_to(d_decay - d_until if before else d_decay, log_decay.shape)
        return chunks.join(dq), chunks.join(dk), chunks.join(dv), d_decay, d_state

    run: list[mx.array] = custom_vjp(forward, backward)(q, k, v, log_decay, state)
    return run


def _decays(chunks: Chunks, before: bool, g: mx.array) -> _Decays:
    """The decays of chunks from log-decays `g [N, 1 or B, 1 or H, M, 1]`."""
    since = mx.cumsum(g, axis=3)
    until = since - g if before else since
    whole = since[..., -1:, :]
    return _Decays(
        pair_decays(until, since, chunks.pairs(itself=not before)),
        chunks.reading(mx.exp(until)),
        chunks.writing(mx.exp(whole - since)),
        chunks.carrying(mx.exp(whole)),
    )


def _by_head(x: mx.array, heads: int) -> mx.array:
    """`x [N, B, G, ...]` of each head's group, `[N, B, H, ...]`."""
    return mx.repeat(x, heads // x.shape[2], axis=2)


def _by_group(a: mx.array, b: mx.array) -> mx.array:
    """`a b` of matrices `a [N, B, G, I, J]` that heads of a group share, `b [N, B, H, J, V]`."""
    groups = b.reshape(*a.shape[:3], -1, *b.shape[3:])
    product = a[:, :, :, None] @ groups
    return product.reshape(*b.shape[:3], *product.shape[-2:])


def _of_group(x: mx.array, groups: int) -> mx.array:
    """The sums of `x [N, B, H, ...]` over the heads of each group."""
    if groups == x.shape[2]:
        return x
    return x.reshape(*x.shape[:2], groups, -1, *x.shape[3:]).sum(axis=3)


def _summed_to(x: mx.array, shape: tuple[int, ...]) -> mx.array:
    """x summed over the axes that `shape` has one of."""
    axes = [i for i, n in enumerate(shape) if n != x.shape[i]]
    return x.sum(axis=axes, keepdims=True) if axes else x
