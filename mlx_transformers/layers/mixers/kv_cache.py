"""The keys and values of the past: one slot per position, or a ring of `window` slots.

A cache is a dict of arrays: `k` and `v` `[B, G, S, K]`, and `pos [S]`, the position that each slot
holds, -1 for none.
"""

import mlx.core as mx

from ...core.context import Context
from ...ops.masks import Mask

State = dict[str, mx.array]


def empty_cache(
    batch: int, n_kv_heads: int, slots: int, widths: tuple[int, int], dtype: mx.Dtype
) -> State:
    """A cache without tokens; `widths` are those of a key and of a value."""
    k, v = (mx.zeros((batch, n_kv_heads, slots, width), dtype) for width in widths)
    return {"k": k, "v": v, "pos": mx.full((slots,), -1, dtype=mx.int32)}


def extend(
    state: State, k: mx.array, v: mx.array, ctx: Context, window: int | None
) -> tuple[State, State, Mask, mx.array]:
    """Add the T keys and values that stand at `ctx.cursor.offset + arange(T)`.

    Returns the new cache, what these T queries read (`k`, `v`, `pos`), the mask of it, and the
    queries' positions `[T]`.
    """
    pos = (mx.arange(k.shape[2]) + ctx.cursor.offset).astype(mx.int32)
    after = _write(state, k, v, pos)
    seen = after
    if window is not None and k.shape[2] > 1:
        # The ring may have dropped keys that the first queries of this chunk still see.
        seen = {
            "k": mx.concatenate([state["k"], k.astype(state["k"].dtype)], axis=2),
            "v": mx.concatenate([state["v"], v.astype(state["v"].dtype)], axis=2),
            "pos": mx.concatenate([state["pos"], pos]),
        }
    seen = {"k": seen["k"].astype(k.dtype), "v": seen["v"].astype(v.dtype), "pos": seen["pos"]}
    return after, seen, Mask(allowed=_visible(pos, seen["pos"], window, ctx.cursor.pad)), pos


def _write(state: State, k: mx.array, v: mx.array, pos: mx.array) -> State:
    """The cache with the last of the new keys and values in the slots `position mod S`."""
    slots = state["pos"].shape[0]
    kept = min(slots, pos.shape[0])
    where = pos[-kept:] % slots
    after = dict(state)
    for name, new in (("k", k), ("v", v)):
        rows = new[:, :, -kept:].astype(state[name].dtype)
        if kept == 1:
            after[name] = mx.slice_update(state[name], rows, where, axes=(2,))
        else:
            cache = mx.array(state[name])
            cache[:, :, where] = rows
            after[name] = cache
    held = mx.array(state["pos"])
    held[where] = pos[-kept:]
    after["pos"] = held
    return after


def _visible(
    q_pos: mx.array, k_pos: mx.array, window: int | None, pad: mx.array | None
) -> mx.array:
    """`[1 or B, 1, T, S]`: which slots hold a key that exists, is not in the future and not out of
    the window; a row's first `pad` positions are padding."""
    distance = q_pos[:, None] - k_pos[None, :]
    seen = (k_pos[None, :] >= 0) & (distance >= 0)
    if window is not None:
        seen = seen & (distance < window)
    if pad is None:
        return seen[None, None]
    return (seen & (k_pos[None, None, :] >= pad[:, None, None]))[:, None]
