"""Attention for the CPU: blocks of queries against only the keys that they can see.

The score matrix of a block is elementwise work between two matmuls, which `mx.compile` fuses and
vectorises; the probabilities are kept for the backward pass, written out here. A block of a causal
mask costs half of the full product on average; with a window, time and memory grow with
`T * window`. First derivatives only.
"""

from dataclasses import dataclass

import mlx.core as mx

from .derivative import with_backward
from .device import wide
from .masks import Mask

BLOCK = 64
HIDDEN = -1e30


def kept_scores(length: int, mask: Mask, block: int = BLOCK) -> float:
    """Probabilities per head and query that the tiles of a row of `length` tokens keep."""
    tiles = _Blocks(1.0, mask, None, block).tiles(length, length)
    return sum((tile.q1 - tile.q0) * (tile.k1 - tile.k0) for tile in tiles) / length


@dataclass(frozen=True)
class Tile:
    """Queries `[q0, q1)` and the keys `[k0, k1)` that hold all they may see."""

    q0: int
    q1: int
    k0: int
    k1: int


def attention_blocks(
    q: mx.array,
    k: mx.array,
    v: mx.array,
    *,
    scale: float,
    mask: Mask,
    softcap: float | None = None,
    block: int = BLOCK,
) -> mx.array:
    """`attention_naive` without dropout, for a mask of structure (`allowed` is None), T <= S.

    Every query sees at least itself, so no row is empty.
    """
    if mask.allowed is not None or q.shape[2] > k.shape[2]:
        raise ValueError("Blocks need a mask made of structure, and no more queries than keys.")
    run = _Blocks(scale, mask, softcap, block)
    out: mx.array = with_backward(run.forward, run.backward)(wide(q), wide(k), wide(v))[0]
    return out.astype(q.dtype)


class _Blocks:
    """Forward and backward of one call; what backward needs travels as extra outputs."""

    def __init__(self, scale: float, mask: Mask, softcap: float | None, block: int):
        self.scale, self.mask, self.softcap, self.block = scale, mask, softcap, block

    def tiles(self, t: int, s: int) -> list[Tile]:
        """The blocks of queries; key ranges are widened to the grid, so that tiles line up."""
        tiles, grid = [], self.block
        for q0 in range(0, t, grid):
            q1 = min(q0 + grid, t)
            k0, k1 = self.mask.keys(s - t + q0, s - t + q1, s)
            tiles.append(Tile(q0, q1, k0 // grid * grid, min(-(-k1 // grid) * grid, s)))
        return tiles

    def forward(self, q: mx.array, k: mx.array, v: mx.array) -> list[mx.array]:
        """The output, then per tile: unnormalised probabilities, their sums, capped scores."""
        q, keys = _grouped(q, k.shape[1]), k.swapaxes(-1, -2)
        t, s = q.shape[3], k.shape[2]
        outs, kept = [], []
        for tile in self.tiles(t, s):
            scores = _rows(q[:, :, :, tile.q0 : tile.q1]) @ keys[..., tile.k0 : tile.k1]
            scores = scores.reshape(*q.shape[:3], tile.q1 - tile.q0, -1) * self.scale
            if self.softcap is not None:
                # tanh(x) = 2 sigmoid(2x) - 1, which the CPU does in a tenth of the time
                capped = 2 * mx.sigmoid(scores * (2 / self.softcap)) - 1
                scores = capped * self.softcap
            seen = self.mask.block(s - t + tile.q0, s - t + tile.q1, tile.k0, tile.k1)
            if seen is not None:
                hidden = mx.where(seen, 0.0, HIDDEN).astype(scores.dtype)
                scores = scores + (hidden if hidden.ndim < 4 else hidden[:, :, None])
            p = mx.exp(scores - scores.max(axis=-1, keepdims=True))
            total = p.sum(axis=-1, keepdims=True)
            out = (_rows(p) @ v[:, :, tile.k0 : tile.k1]).reshape(*p.shape[:4], -1) / total
            outs.append(out)
            kept += [p, total] if self.softcap is None else [p, total, capped]
        out = mx.concatenate(outs, axis=3)
        return [out.reshape(q.shape[0], -1, t, v.shape[-1]), *kept]

    def backward(
        self,
        primals: tuple[mx.array, mx.array, mx.array],
        cotangents: list[mx.array],
        outputs: list[mx.array],
    ) -> tuple[mx.array, mx.array, mx.array]:
        """Gradients of q, k and v: with P the probabilities, `dS = P (dO V^T - sum(dO O))`."""
        q, k, v = primals
        groups, t, s = k.shape[1], q.shape[2], k.shape[2]
        q5, d_out, out = (_grouped(a, groups) for a in (q, cotangents[0], outputs[0]))
        inner = (d_out * out).sum(axis=-1, keepdims=True)
        tiles, per_tile = self.tiles(t, s), 2 if self.softcap is None else 3
        dq, dk, dv = [], [], []
        for i, tile in enumerate(tiles):
            p, total, *capped = outputs[1 + i * per_tile : 1 + (i + 1) * per_tile]
            span, keys = slice(tile.q0, tile.q1), slice(tile.k0, tile.k1)
            dp = _rows(d_out[:, :, :, span]) @ v[:, :, keys].swapaxes(-1, -2)
            ds = p * ((dp.reshape(p.shape) - inner[:, :, :, span]) * (self.scale / total))
            if capped:
                ds = ds * (1 - capped[0] * capped[0])
            ds = _rows(ds)
            dq.append((ds @ k[:, :, keys]).reshape(q5[:, :, :, span].shape))
            dk.append(ds.swapaxes(-1, -2) @ _rows(q5[:, :, :, span]))
            dv.append(_rows(p).swapaxes(-1, -2) @ _rows(d_out[:, :, :, span] / total))
        whole = mx.concatenate(dq, axis=3).reshape(q.shape)
        return whole, self._fold(tiles, dk, s), self._fold(tiles, dv, s)

    def _fold(self, tiles: list[Tile], parts: list[mx.array], s: int) -> mx.array:
        """Sum the tiles' parts where they overlap in keys; never a zero-filled `[S, K]` each."""
        columns = []
        for a in range(0, s, self.block):
            e = min(a + self.block, s)
            over = [
                part[:, :, a - tile.k0 : e - tile.k0]
                for tile, part in zip(tiles, parts, strict=True)
                if tile.k0 <= a and e <= tile.k1
            ]
            zero = mx.zeros((*parts[0].shape[:2], e - a, parts[0].shape[-1]), parts[0].dtype)
            columns.append(sum(over[1:], over[0]) if over else zero)
        return mx.concatenate(columns, axis=2)


def _grouped(x: mx.array, groups: int) -> mx.array:
    """`[B, H, T, K]` as `[B, G, H / G, T, K]`."""
    b, h, t, width = x.shape
    return x.reshape(b, groups, h // groups, t, width)


def _rows(x: mx.array) -> mx.array:
    """`[B, G, H / G, T, K]` as `[B, G, H / G * T, K]`: all that meets one head's keys, stacked."""
    return x.reshape(*x.shape[:2], -1, x.shape[-1])
