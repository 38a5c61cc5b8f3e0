"""KV cache: one slot per position, or a ring buffer of `window` slots.

A cache is a dict of arrays: keys `k` and values `v` `[B, G, S, K]`, and `pos [S]`, the position of
each slot's token, -1 for an empty slot. In a packed cache `k` and `v` are the words of MLX's
integers (ops/packed.py), in groups along K, with `k_scales`, `k_biases` and so on beside them.
"""

from typing import NamedTuple

import mlx.core as mx

from ...core.context import Context
from ...core.errors import RunError
from ...ops.masks import Mask
from ...ops.packed import GROUPS, Packing
from ..kinds import State


def empty_cache(
    batch: int, n_kv_heads: int, slots: int, widths: tuple[int, int], dtype: mx.Dtype
) -> State:
    """An empty cache; `widths` are those of a key and of a value."""
    k, v = (mx.zeros((batch, n_kv_heads, slots, width), dtype) for width in widths)
    return {"k": k, "v": v, "pos": mx.full((slots,), -1, dtype=mx.int32)}


def with_spare_slots(state: State, n: int) -> State:
    """An empty cache with n more slots, so that a ring keeps its window when its last n tokens are
    taken back."""
    more: State = {
        name: mx.pad(array, [(0, 0), (0, 0), (0, n), (0, 0)])
        for name, array in state.items()
        if name != "pos"
    }
    return {**more, "pos": mx.pad(state["pos"], [(0, n)], constant_values=-1)}


def packed_cache(state: State, how: Packing) -> State:
    """An empty cache whose keys and values are packed as integers of few bits.

    Raises:
        RunError: a group doesn't divide the width of a key or a value.
    """
    cache: State = {"pos": state["pos"]}
    for name, kind in (("k", "Keys"), ("v", "Values")):
        width = state[name].shape[-1]
        if width % how.group_size:
            able = [size for size in GROUPS if width % size == 0]
            other = f", or give --kv-group-size {' or '.join(map(str, able))}" if able else ""
            raise RunError(
                f"{kind} in the KV cache have {width} features, no multiple of the group size "
                f"{how.group_size}: leave out --kv-bits{other}."
            )
        parts = mx.quantize(state[name], how.group_size, how.bits)
        cache |= dict(zip(_names(name), parts, strict=True))
    return cache


class Extended(NamedTuple):
    """A cache after the keys and values of a step, and all that attention of that step needs.

    Attributes:
        state: the new cache.
        k, v: keys and values that the queries of this step read, `[B, G, S, K]`.
        k_pos: `[S]`, their positions, -1 for an empty slot.
        q_pos: `[T]`, positions of the queries.
        visible: which of the keys each query sees, `[1 or B, 1, T, S]`.
    """

    state: State
    k: mx.array
    v: mx.array
    k_pos: mx.array
    q_pos: mx.array
    visible: mx.array

    @property
    def mask(self) -> Mask:
        """`visible` as a mask."""
        return Mask(allowed=self.visible)

    def in_chunks(self, chunk: int, pad: mx.array | None) -> Mask:
        """`visible` within chunks of positions, which are counted behind a row's `pad [B]`."""
        before = 0 if pad is None else pad[:, None]
        queries, keys = ((at[None] - before) // chunk for at in (self.q_pos, self.k_pos))
        return Mask(allowed=self.visible & (queries[..., :, None] == keys[..., None, :])[:, None])


def extend(state: State, k: mx.array, v: mx.array, ctx: Context, window: int | None) -> Extended:
    """Add the keys and values of T tokens at positions `cursor.offset + arange(T)` to a cache."""
    pos = (mx.arange(k.shape[2]) + ctx.cursor.offset).astype(mx.int32)
    new = _encoded(state, "k", k) | _encoded(state, "v", v)
    after = _write(state, new, pos, wraps=window is not None)
    keys, values = (_decoded(after, *each) for each in (("k", k), ("v", v)))
    k_pos = after["pos"]
    slots, n = state["pos"].shape[0], k.shape[2]
    if window is not None and n > 1 and slots < window + n - 1:
        # The ring may have dropped keys that the first queries of this chunk still see.
        keys, values = (
            mx.concatenate([_decoded(state, *each), _decoded(new, *each)], axis=2)
            for each in (("k", k), ("v", v))
        )
        # Entries of tokens that were taken back are at positions that are written again.
        before = mx.where(state["pos"] < pos[0], state["pos"], -1)
        k_pos = mx.concatenate([before, pos])
    visible = _visible(pos, k_pos, window, ctx.cursor.pad)
    if ctx.cursor.seen is not None:
        has_key = mx.take(ctx.cursor.seen, mx.maximum(k_pos, 0), axis=1)
        visible = visible & has_key[:, None, None]
    return Extended(after, keys.astype(k.dtype), values.astype(v.dtype), k_pos, pos, visible)


def _names(name: str) -> tuple[str, str, str]:
    """The names of the arrays of packed keys or values."""
    return name, f"{name}_scales", f"{name}_biases"


def _encoded(state: State, name: str, new: mx.array) -> State:
    """New keys or values as the cache stores them, by name."""
    words, scales, biases = _names(name)
    if scales not in state:
        return {name: new.astype(state[name].dtype)}
    size = new.shape[-1] // state[scales].shape[-1]
    bits = 32 * state[words].shape[-1] // new.shape[-1]
    parts = mx.quantize(new.astype(state[scales].dtype), size, bits)
    return dict(zip((words, scales, biases), parts, strict=True))


def _decoded(stored: State, name: str, like: mx.array) -> mx.array:
    """Stored keys or values `[B, G, S, K]`, as wide as `like`."""
    words, scales, biases = _names(name)
    if scales not in stored:
        plain: mx.array = stored[name]
        return plain
    size = like.shape[-1] // stored[scales].shape[-1]
    bits = 32 * stored[words].shape[-1] // like.shape[-1]
    return mx.dequantize(stored[words], stored[scales], stored[biases], size, bits)


def _write(state: State, new: State, pos: mx.array, wraps: bool) -> State:
    """Write the last of the new keys and values into the slots `position mod S`.

    Args:
        state: the cache.
        new: arrays `[B, G, T, ...]` by their names in the cache.
        pos: `[T]`, their positions.
        wraps: whether positions may pass the last slot, so that T > 1 tokens may not be neighbours.
    """
    slots = state["pos"].shape[0]
    n = min(slots, pos.shape[0])
    where = pos[-n:] % slots
    after = dict(state)
    for name, array in new.items():
        rows = array[:, :, -n:]
        if n == 1 or not wraps:
            after[name] = mx.slice_update(state[name], rows, where[:1], axes=(2,))
        else:
            cache = mx.array(state[name])
            cache[:, :, where] = rows
            after[name] = cache
    positions = mx.array(state["pos"])
    positions[where] = pos[-n:]
    after["pos"] = positions
    return after


def _visible(
    q_pos: mx.array, k_pos: mx.array, window: int | None, pad: mx.array | None
) -> mx.array:
    """The boolean mask `[1 or B, 1, T, S]` of slots: filled, not in the future, inside the window,
    and not among a row's first `pad` positions."""
    distance = q_pos[:, None] - k_pos[None, :]
    visible = (k_pos[None, :] >= 0) & (distance >= 0)
    if window is not None:
        visible = visible & (distance < window)
    if pad is None:
        return visible[None, None]
    return (visible & (k_pos[None, None, :] >= pad[:, None, None]))[:, None]
