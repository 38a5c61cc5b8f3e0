"""Native sparse attention: means of blocks say which blocks a query reads in full.

Yuan et al. 2025 (NSA), equations 7 to 12, with plain means for the paper's learned compression, as
in flash-linear-attention. Shapes: q `[B, H, T, K]`, k and v `[B, G, T, K]` with H a multiple of G;
the heads of a group choose blocks together.
"""

from typing import NamedTuple

import mlx.core as mx

from mlx_transformers.ops.key_sets import attend, blocks


class NativeSparse(NamedTuple):
    """The branches of native sparse attention.

    Attributes:
        compressed: `[B, H, T, K]`, attention to the means of whole blocks in the past; zeros where
            there is none.
        selected: `[B, H, T, K]`, attention to the tokens of the chosen blocks.
        chosen: `[B, G, T, n]`, the chosen blocks in ascending order, -1 for a slot without one.
    """

    compressed: mx.array
    selected: mx.array
    chosen: mx.array


def native_sparse(
    q: mx.array,
    k: mx.array,
    v: mx.array,
    *,
    scale: float,
    block: int,
    n_blocks: int,
    counts: mx.array | None = None,
    chosen: mx.array | None = None,
) -> NativeSparse:
    """Both branches, causal; a sliding window and the gates of the branches are the caller's.

    Args:
        q, k, v: queries, keys and values.
        scale: factor of the scores.
        block: tokens of a block.
        n_blocks: blocks that a query reads in full: its own, the one before it and the first, then
            those whose mean has the largest weight, averaged over the heads of a group.
        counts: `[B, G, T]`, how many of the `n_blocks` each query reads; None: all.
        chosen: `[B, G, T, n]`, blocks that are read in the place of these, -1 for none.
    """
    B, H, T, K = q.shape
    groups = k.shape[1]
    q5 = q.reshape(B, groups, H // groups, T, K)
    t = mx.arange(T)
    means_k, means_v = (_block_means(x, block)[:, :, None] for x in (k, v))
    ends = (mx.arange(means_k.shape[3]) + 1) * block - 1
    past = ends[None] <= t[:, None]
    compressed = attend(q5, means_k, means_v, scale=scale, seen=past).out
    if chosen is None:
        chosen = _choose(q5, means_k, past, scale, block, n_blocks, counts)
    keys, values = (_read_blocks(x, mx.maximum(chosen, 0), block) for x in (k, v))
    place = (chosen[..., None] * block + mx.arange(block)).flatten(-2)
    allowed = ((place >= 0) & (place <= t[:, None]))[..., None, :]
    selected = attend(q5.swapaxes(2, 3), keys, values, scale=scale, seen=allowed).out
    return NativeSparse(
        compressed.reshape(B, H, T, -1), selected.swapaxes(2, 3).reshape(B, H, T, -1), chosen
    )


def _block_means(x: mx.array, block: int) -> mx.array:
    """The means `[B, G, N, K]` of the blocks of `[B, G, T, K]`, the last one of what there is."""
    length = x.shape[2]
    n = -(-length // block)
    counts = mx.minimum(length - mx.arange(n) * block, block)
    return blocks(x, block).sum(axis=-2) / counts[:, None].astype(x.dtype)


def _choose(
    q: mx.array,
    means: mx.array,
    past: mx.array,
    scale: float,
    block: int,
    n_blocks: int,
    counts: mx.array | None,
) -> mx.array:
    """The blocks `[B, G, T, n]` that each query reads in full, -1 for none."""
    scores = mx.where(past, (q * scale) @ means.swapaxes(-1, -2), -1e30)
    weights = mx.where(past, mx.softmax(scores, axis=-1, precise=True), 0.0).mean(axis=2)
    index, query_block = mx.arange(means.shape[3]), (mx.arange(q.shape[3]) // block)[:, None]
    always = (index == query_block) | (index == 0) | (index == query_block - 1)
    weights = mx.stop_gradient(mx.where(always, 1.0, weights))
    best = mx.argsort(-weights, axis=-1)[..., :n_blocks].astype(mx.int32)
    allowed = mx.broadcast_to(past | always, weights.shape)
    chosen = mx.where(mx.take_along_axis(allowed, best, axis=-1), best, -1)
    if counts is not None:
        chosen = mx.where(mx.arange(chosen.shape[-1]) < counts[..., None], chosen, -1)
    if chosen.shape[-1] < n_blocks:
        missing = n_blocks - chosen.shape[-1]
        chosen = mx.pad(chosen, [(0, 0)] * 3 + [(0, missing)], constant_values=-1)
    return mx.sort(chosen, axis=-1)


def _read_blocks(x: mx.array, chosen: mx.array, block: int) -> mx.array:
    """The tokens `[B, G, T, n * block, K]` of blocks `chosen [B, G, T, n]` of `[B, G, S, K]`."""
    all_blocks = blocks(x, block)
    B, G = chosen.shape[:2]
    row, group = mx.arange(B)[:, None, None, None], mx.arange(G)[:, None, None]
    return all_blocks[row, group, chosen].flatten(-3, -2)
