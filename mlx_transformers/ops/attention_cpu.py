"""Attention for the CPU: blocks of queries against only their visible keys.

The score matrix of a block is elementwise work between two matmuls, which `mx.compile` fuses and
vectorises. The backward pass, written out here, recomputes the probabilities, as Dao et al. 2022
(FlashAttention, section 3.1) do on a GPU: each row saves its log-sum-exp. A block of a causal mask
costs half of the full product on average; with a window, time grows with `T * window`. First
derivatives only.
"""

from dataclasses import dataclass

import mlx.core as mx

from ..core.shapes import BGS_, BGSK, BHT_, BHTK
from .custom_vjp import custom_vjp
from .device import upcast
from .masks import Mask
from .sums import row_sum

BLOCK = 64
MASKED = -1e30


@dataclass(frozen=True)
class Tile:
    """Queries `[q0, q1)` and the range of keys `[k0, k1)` that holds their visible keys."""

    q0: int
    q1: int
    k0: int
    k1: int


def attention_blocks(
    q: BHTK,
    k: BGSK,
    v: BGS_,
    *,
    scale: float,
    mask: Mask,
    softcap: float | None = None,
    block: int = BLOCK,
) -> BHT_:
    """`attention_naive` without dropout, for a mask of structure (`allowed` is None), T <= S.

    Every query sees at least itself, so no row is empty.
    """
    if mask.allowed is not None or q.shape[2] > k.shape[2]:
        raise ValueError("Blocks need a mask made of structure, and no more queries than keys.")
    run = _Blocks(scale, mask, softcap, block)
    # once, or else each product with a part of the values copies that part
    v = mx.contiguous(upcast(v))
    out: mx.array = custom_vjp(run.forward, run.backward)(upcast(q), upcast(k), v)[0]
    return out.swapaxes(1, 2).astype(q.dtype)


class _Blocks:
    """Forward and backward passes of one call; saved arrays are extra outputs of the forward."""

    def __init__(self, scale: float, mask: Mask, softcap: float | None, block: int):
        self.scale, self.mask, self.softcap, self.block = scale, mask, softcap, block

    def tiles(self, t: int, s: int) -> list[Tile]:
        """The blocks of queries; key ranges are rounded to the grid, so that tiles line up."""
        tiles, grid = [], self.block
        for q0 in range(0, t, grid):
            q1 = min(q0 + grid, t)
            k0, k1 = self.mask.keys(s - t + q0, s - t + q1, s)
            tiles.append(Tile(q0, q1, k0 // grid * grid, min(-(-k1 // grid) * grid, s)))
        return tiles

    def scores(
        self, tile: Tile, q: mx.array, k: mx.array, shift: int
    ) -> tuple[mx.array, mx.array | None]:
        """Masked scores `[B, G, H / G, n, m]` of a tile, and the `tanh` of the soft cap, if any."""
        n, capped = tile.q1 - tile.q0, None
        scores = _rows(q[:, :, :, tile.q0 : tile.q1]) @ k[:, :, tile.k0 : tile.k1].swapaxes(-1, -2)
        scores = scores.reshape(*q.shape[:3], n, -1) * self.scale
        if self.softcap is not None:
            # tanh(x) = 2 sigmoid(2x) - 1, which the CPU does in a tenth of the time
            capped = 2 * mx.sigmoid(scores * (2 / self.softcap)) - 1
            scores = capped * self.softcap
        seen = self.mask.block(shift + tile.q0, shift + tile.q1, tile.k0, tile.k1)
        if seen is not None:
            hidden = mx.where(seen, 0.0, MASKED).astype(scores.dtype)
            # as an array: fused with what follows, it is computed again for every row and head
            hidden = mx.depends([hidden], [q])[0]
            scores = scores + (hidden if hidden.ndim < 4 else hidden[:, :, None])
        return scores, capped

    def forward(self, q: mx.array, k: mx.array, v: mx.array) -> list[mx.array]:
        """The output `[B, T, H, K]`, as the next layer reads it, and each tile's log-sum-exp."""
        q = _grouped(q, k.shape[1])
        t, s = q.shape[3], k.shape[2]
        outs, sums = [], []
        for tile in self.tiles(t, s):
            scores, _ = self.scores(tile, q, k, s - t)
            top = scores.max(axis=-1, keepdims=True)
            p = mx.exp(scores - top)
            total = row_sum(p)
            out = (_rows(p) @ v[:, :, tile.k0 : tile.k1]).reshape(*p.shape[:4], -1) / total
            outs.append(out.transpose(0, 3, 1, 2, 4))
            sums.append(top + mx.log(total))
        out = mx.concatenate(outs, axis=1)
        return [out.reshape(*out.shape[:2], -1, v.shape[-1]), *sums]

    def backward(
        self,
        primals: tuple[mx.array, mx.array, mx.array],
        cotangents: list[mx.array],
        outputs: list[mx.array],
    ) -> tuple[mx.array, mx.array, mx.array]:
        """Gradients of q, k and v: with P the probabilities, `dS = P (dO V^T - sum(dO O))`."""
        # wait for the cotangent: otherwise `mx.compile` reuses the forward's scores, and saves them
        q, k, v = mx.depends(list(primals), cotangents[:1])
        groups, t, s = k.shape[1], q.shape[2], k.shape[2]
        q5 = _grouped(q, groups)
        d_out, out = (_grouped(a.swapaxes(1, 2), groups) for a in (cotangents[0], outputs[0]))
        inner = row_sum(d_out * out)
        dq: list[mx.array] = []
        dk, dv = _Columns(self.block, k), _Columns(self.block, v)
        for tile, lse in zip(self.tiles(t, s), outputs[1:], strict=True):
            span, keys = slice(tile.q0, tile.q1), slice(tile.k0, tile.k1)
            scores, capped = self.scores(tile, q5, k, s - t)
            p = mx.exp(scores - lse)
            dp = _rows(d_out[:, :, :, span]) @ v[:, :, keys].swapaxes(-1, -2)
            ds = p * ((dp.reshape(p.shape) - inner[:, :, :, span]) * self.scale)
            if capped is not None:
                ds = ds * (1 - capped * capped)
            ds = _rows(ds)
            dq.append((ds @ k[:, :, keys]).reshape(q5[:, :, :, span].shape))
            dk.add(tile, ds.swapaxes(-1, -2) @ _rows(q5[:, :, :, span]))
            dv.add(tile, _rows(p).swapaxes(-1, -2) @ _rows(d_out[:, :, :, span]))
            # one tile after the other: otherwise those of a long row may all be in memory at once
            q5, k, v = mx.depends([q5, k, v], [dq[-1], *dk.touched(tile), *dv.touched(tile)])
        return mx.concatenate(dq, axis=3).reshape(q.shape), dk.whole(), dv.whole()


class _Columns:
    """A gradient `[B, G, S, K]` summed over tiles, by the columns of the grid."""

    def __init__(self, block: int, like: mx.array):
        self.block, self.like = block, like
        self.sums: dict[int, mx.array] = {}

    def starts(self, tile: Tile) -> range:
        """Where the columns under a tile begin."""
        return range(tile.k0, tile.k1, self.block)

    def add(self, tile: Tile, part: mx.array) -> None:
        """Add a tile's part, `[B, G, k1 - k0, K]`."""
        for a in self.starts(tile):
            piece = part[:, :, a - tile.k0 : a - tile.k0 + self.block]
            self.sums[a] = self.sums[a] + piece if a in self.sums else piece

    def touched(self, tile: Tile) -> list[mx.array]:
        """The sums that a tile has changed."""
        return [self.sums[a] for a in self.starts(tile)]

    def whole(self) -> mx.array:
        """The gradient, zero for keys that no query sees."""
        zeros = mx.zeros_like(self.like)
        starts = range(0, self.like.shape[2], self.block)
        return mx.concatenate(
            [self.sums.get(a, zeros[:, :, a : a + self.block]) for a in starts], axis=2
        )


def _grouped(x: mx.array, groups: int) -> mx.array:
    """`[B, H, T, K]` as `[B, G, H / G, T, K]`."""
    b, h, t, width = x.shape
    return x.reshape(b, groups, h // groups, t, width)


def _rows(x: mx.array) -> mx.array:
    """`[B, G, H / G, T, K]` as `[B, G, H / G * T, K]`: all queries of one key/value head."""
    return x.reshape(*x.shape[:2], -1, x.shape[-1])
