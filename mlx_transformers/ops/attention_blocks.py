"""Attention in blocks of queries against only their visible keys, with memory linear in T.

The backward pass, written out here, computes the probabilities of a block again, as Dao et al. 2022
(FlashAttention, section 3.1) do on a GPU, so that no scores are saved, whatever the mask, bias,
soft cap, sinks and dropout. On the CPU the scores of a block are elementwise work between two
products, which `mx.compile` fuses and vectorises, and each row saves its log-sum-exp. On the GPU
the forward pass of a block is MLX's kernel, and nothing is saved. A block of a causal mask costs
half of the full product on average; with a window, time grows with `T * window`. First derivatives
only.
"""

from dataclasses import dataclass

import mlx.core as mx

from ..core.score_bias import DistanceBias
from ..core.shapes import BGS_, BGSK, BHT_, BHTK, H
from .custom_vjp import custom_vjp
from .device import upcast
from .masks import Mask
from .score_bias import bias_block, parts_of_block
from .sums import row_max, row_sum

BLOCK = 64
GPU_BLOCK = 512
"""Queries of a block: on the GPU enough to fill it, and its kernels keep no scores in memory."""
MASKED = -1e30
BIAS = ("by_distance", "keys", "by_key")
Arrays = dict[str, mx.array]


@dataclass(frozen=True)
class Tile:
    """Queries `[q0, q1)` and the range of keys `[k0, k1)` that holds their visible keys."""

    q0: int
    q1: int
    k0: int
    k1: int

    @property
    def span(self) -> slice:
        """The queries."""
        return slice(self.q0, self.q1)

    @property
    def keys(self) -> slice:
        """The keys."""
        return slice(self.k0, self.k1)


def blocks_serve(mask: Mask, t: int, s: int) -> bool:
    """Whether `attention_blocks` can compute T queries of S keys: a mask made of structure, and no
    more queries than keys where it goes by position."""
    bounded = mask.window is not None or mask.chunk is not None
    placed = mask.causal or bounded or mask.segments is not None
    return mask.allowed is None and (t <= s or not placed)


def attention_blocks(
    q: BHTK,
    k: BGSK,
    v: BGS_,
    *,
    scale: float,
    mask: Mask,
    softcap: float | None = None,
    bias: DistanceBias | None = None,
    sinks: H | None = None,
    dropout: float = 0.0,
    key: mx.array | None = None,
    block: int = BLOCK,
    fused: bool = False,
) -> BHT_:
    """`attention_naive`, for a mask that `blocks_serve`.

    A query without visible keys gets zeros or a mean of values. `fused` computes the forward pass
    of a block by MLX's kernel, where there is neither soft cap nor dropout.
    """
    if not blocks_serve(mask, q.shape[2], k.shape[2]):
        raise ValueError("Blocks need a mask made of structure, and no more queries than keys.")
    arrays = {"q": q, "k": k, "v": v} | ({} if bias is None else bias.arrays())
    if sinks is not None:
        arrays["sinks"] = sinks
    if dropout > 0.0:
        if key is None:
            raise ValueError("Attention dropout needs a PRNG key.")
        arrays["key"] = mx.stop_gradient(key)
    if not fused:
        # once, or else each product with a part of the values copies that part
        arrays |= {"q": upcast(q), "k": upcast(k), "v": mx.contiguous(upcast(v))}
    fused = fused and softcap is None and not dropout
    run = _Blocks(tuple(arrays), scale, mask, softcap, dropout, block, fused)
    out: mx.array = custom_vjp(run.forward, run.backward)(*arrays.values())[0]
    return out.swapaxes(1, 2).astype(q.dtype)


@dataclass(frozen=True, eq=False)
class _Blocks:
    """Forward and backward passes of one call; saved arrays are extra outputs of the forward.

    `names` are those of the arrays that both get: q, k, v, the parts of a bias, sinks, key.
    """

    names: tuple[str, ...]
    scale: float
    mask: Mask
    softcap: float | None
    dropout: float
    block: int
    fused: bool

    def tiles(self, t: int, s: int) -> list[Tile]:
        """The blocks of queries; key ranges are rounded to the grid, so that tiles line up."""
        tiles, grid = [], self.block
        for q0 in range(0, t, grid):
            q1 = min(q0 + grid, t)
            k0, k1 = self.mask.keys(s - t + q0, s - t + q1, s)
            tiles.append(Tile(q0, q1, k0 // grid * grid, min(-(-k1 // grid) * grid, s)))
        return tiles

    def seen(self, tile: Tile, shift: int) -> mx.array | None:
        """The mask of a tile, with an axis for the queries of a group; None: all visible."""
        allowed = self.mask.block(shift + tile.q0, shift + tile.q1, tile.k0, tile.k1)
        return allowed if allowed is None or allowed.ndim < 4 else allowed[:, :, None]

    def bias(self, tile: Tile, x: Arrays, q: mx.array) -> mx.array | None:
        """The bias `[1 or B, H, n, m]` of a tile, of queries `[B, H, n, K]`."""
        parts = self.parts(tile, x)
        if not parts:
            return None
        cut = {name: part for name, (part, _) in parts.items()}
        return bias_block(upcast(q) * self.scale, cut, tile.k1 - tile.k0)

    def parts(self, tile: Tile, x: Arrays) -> dict[str, tuple[mx.array, tuple[slice, ...]]]:
        """The slices of the bias that a tile needs, and where they are."""
        every: Arrays = {name: x[name] for name in BIAS if name in x}
        return parts_of_block(every, tile.q0, tile.q1, tile.k0, tile.k1, x["k"].shape[2])

    def scores(self, tile: Tile, x: Arrays, shift: int) -> tuple[mx.array, mx.array | None]:
        """Masked scores `[B, G, H / G, n, m]` of a tile, and the `tanh` of the soft cap, if any."""
        q, k, capped = x["q"][:, :, tile.span], upcast(x["k"][:, :, tile.keys]), None
        q5 = _grouped(upcast(q), k.shape[1])
        scores = (_rows(q5) @ k.swapaxes(-1, -2)).reshape(*q5.shape[:4], -1) * self.scale
        if self.softcap is not None:
            # tanh(x) = 2 sigmoid(2x) - 1, which the CPU does in a tenth of the time
            capped = 2 * mx.sigmoid(scores * (2 / self.softcap)) - 1
            scores = capped * self.softcap
        bias = self.bias(tile, x, q)
        if bias is not None:
            scores = scores + _grouped(bias, k.shape[1])
        allowed = self.seen(tile, shift)
        if allowed is not None:
            hidden = mx.where(allowed, 0.0, MASKED).astype(scores.dtype)
            # as an array: fused with what follows, it is computed again for every row and head
            scores = scores + mx.depends([hidden], [q])[0]
        return scores, capped

    def log_sum(self, scores: mx.array, x: Arrays) -> tuple[mx.array, mx.array]:
        """The largest score of each row, and the sum of exponentials above it, sinks included."""
        top = row_max(scores)
        if "sinks" not in x:
            return top, row_sum(mx.exp(scores - top))
        sink = _of_heads(x["sinks"], scores)
        top = mx.maximum(top, sink)
        return top, row_sum(mx.exp(scores - top)) + mx.exp(sink - top)

    def kept(self, index: int, count: int, x: Arrays, like: mx.array) -> mx.array:
        """The factors of dropout of tile `index` of `count`: 0, or `1 / (1 - rate)`."""
        key = mx.random.split(x["key"], count)[index]
        keep = mx.random.bernoulli(1.0 - self.dropout, like.shape, key=key)
        return keep.astype(like.dtype) * (1.0 / (1.0 - self.dropout))

    def forward(self, *arrays: mx.array) -> list[mx.array]:
        """The output `[B, T, H, K]`, as the next layer reads it, and each tile's log-sum-exp."""
        x = dict(zip(self.names, arrays, strict=True))
        t, s = x["q"].shape[2], x["k"].shape[2]
        tiles = self.tiles(t, s)
        if self.fused:
            return [mx.concatenate([self.by_kernel(tile, x, s - t) for tile in tiles], axis=1)]
        outs, sums = [], []
        for index, tile in enumerate(tiles):
            scores, _ = self.scores(tile, x, s - t)
            top, total = self.log_sum(scores, x)
            p = mx.exp(scores - top)
            weights = p * self.kept(index, len(tiles), x, p) if self.dropout else p
            values = upcast(x["v"][:, :, tile.keys])
            out = (_rows(weights) @ values).reshape(*p.shape[:4], -1)
            # the division writes the order of the output, which otherwise costs another copy
            outs.append(out.transpose(0, 3, 1, 2, 4) / total.transpose(0, 3, 1, 2, 4))
            sums.append(top + mx.log(total))
        out = mx.concatenate(outs, axis=1)
        return [out.reshape(*out.shape[:2], -1, out.shape[-1]), *sums]

    def by_kernel(self, tile: Tile, x: Arrays, shift: int) -> mx.array:
        """The output `[B, n, H, K]` of a tile, by MLX's kernel for the GPU."""
        q, tile_mask = (
            x["q"][:, :, tile.span],
            self.mask.block(shift + tile.q0, shift + tile.q1, tile.k0, tile.k1),
        )
        bias = self.bias(tile, x, q)
        if bias is not None:
            hidden = -6e4 if q.dtype == mx.float16 else MASKED
            bias = bias.astype(q.dtype)
            tile_mask = (
                bias if tile_mask is None else mx.where(tile_mask, bias, mx.array(hidden, q.dtype))
            )
        sinks = x["sinks"].astype(q.dtype) if "sinks" in x else None
        out = mx.fast.scaled_dot_product_attention(
            q,
            x["k"][:, :, tile.keys],
            x["v"][:, :, tile.keys],
            scale=self.scale,
            mask=tile_mask,
            sinks=sinks,
        )
        return out.swapaxes(1, 2)

    def backward(
        self,
        primals: tuple[mx.array, ...],
        cotangents: list[mx.array],
        outputs: list[mx.array],
    ) -> tuple[mx.array, ...]:
        """Gradients of all arrays: with P the probabilities, `dS = P (dO V^T - sum(dO O))`."""
        # wait for the cotangent: otherwise `mx.compile` reuses the forward's scores, and saves them
        x = dict(zip(self.names, mx.depends(list(primals), cotangents[:1]), strict=True))
        groups, t, s = x["k"].shape[1], x["q"].shape[2], x["k"].shape[2]
        d_out, out = (
            _grouped(upcast(a).swapaxes(1, 2), groups) for a in (cotangents[0], outputs[0])
        )
        sums = _Sums(self, x, row_sum(d_out * out))
        tiles = self.tiles(t, s)
        for index, tile in enumerate(tiles):
            scores, capped = self.scores(tile, x, s - t)
            if self.fused:
                top, total = self.log_sum(scores, x)
                lse = top + mx.log(total)
            else:
                lse = outputs[1 + index]
            p = mx.exp(scores - lse)
            dropout_mask = self.kept(index, len(tiles), x, p) if self.dropout else None
            sums.add(tile, p, dropout_mask, d_out[:, :, :, tile.span], lse, capped)
            # one tile after the other: otherwise those of a long row may all be in memory at once
            x = dict(zip(x, mx.depends(list(x.values()), sums.touched(tile)), strict=True))
        return sums.gradients(primals)


class _Sums:
    """The gradients of a call, summed tile by tile."""

    def __init__(self, run: _Blocks, x: Arrays, inner: mx.array) -> None:
        self.run, self.x, self.inner = run, x, inner
        self.dq: list[mx.array] = []
        self.dk, self.dv = _Columns(run.block, x["k"]), _Columns(run.block, x["v"])
        self.rest: Arrays = {
            name: mx.zeros_like(upcast(x[name])) for name in (*BIAS, "sinks") if name in x
        }

    def add(
        self,
        tile: Tile,
        p: mx.array,
        kept: mx.array | None,
        d_out: mx.array,
        lse: mx.array,
        capped: mx.array | None,
    ) -> None:
        """Add a tile's parts: probabilities and factors of dropout `[B, G, H / G, n, m]`, gradient
        of the output `[B, G, H / G, n, K]`, log-sum-exp, `tanh` of the soft cap."""
        run, x, inner = self.run, self.x, self.inner[:, :, :, tile.span]
        keys, values = (upcast(x[name][:, :, tile.keys]) for name in "kv")
        dp = (_rows(d_out) @ values.swapaxes(-1, -2)).reshape(p.shape)
        weights = p if kept is None else p * kept
        ds = p * ((dp if kept is None else dp * kept) - inner)
        q = upcast(x["q"][:, :, tile.span])
        dq = self.add_bias(tile, q, ds)
        ds = ds * run.scale if capped is None else ds * ((1 - capped * capped) * run.scale)
        ds = _rows(ds)
        dq = (ds @ keys).reshape(q.shape) + (0 if dq is None else dq)
        self.dq.append(dq)
        self.dk.add(tile, ds.swapaxes(-1, -2) @ _rows(_grouped(q, keys.shape[1])))
        self.dv.add(tile, _rows(weights).swapaxes(-1, -2) @ _rows(d_out))
        if "sinks" in self.rest:
            sink = mx.exp(_of_heads(x["sinks"], lse) - lse) * inner
            self.rest["sinks"] = self.rest["sinks"] - sink.sum(axis=(0, 3, 4)).reshape(-1)

    def add_bias(self, tile: Tile, q: mx.array, ds: mx.array) -> mx.array | None:
        """Add the gradients of the bias's parts; returns that of the queries `[B, H, n, K]`."""
        parts = self.run.parts(tile, self.x)
        if not parts:
            return None
        names, scale = list(parts), self.run.scale

        def block(q: mx.array, *cut: mx.array) -> mx.array:
            return bias_block(q * scale, dict(zip(names, cut, strict=True)), ds.shape[-1])

        cut = [upcast(part) for part, _ in parts.values()]
        shape = (ds.shape[0], -1, *ds.shape[3:])
        pairs = ds.reshape(shape)
        if "keys" not in parts and "by_key" not in parts:
            pairs = pairs.sum(axis=0, keepdims=True)
        _, (dq, *gradients) = mx.vjp(block, [q, *cut], [pairs])
        for (name, (_, where)), part in zip(parts.items(), gradients, strict=True):
            self.rest[name][where] = self.rest[name][where] + part
        return dq if "keys" in parts else None

    def touched(self, tile: Tile) -> list[mx.array]:
        """The sums that a tile has changed."""
        rest = list(self.rest.values())
        return [self.dq[-1], *self.dk.touched(tile), *self.dv.touched(tile), *rest]

    def gradients(self, primals: tuple[mx.array, ...]) -> tuple[mx.array, ...]:
        """One gradient for each of the primals, in its dtype."""
        sums = self.rest | {
            "q": mx.concatenate(self.dq, axis=2),
            "k": self.dk.whole(),
            "v": self.dv.whole(),
        }
        return tuple(
            mx.zeros_like(old) if name == "key" else sums[name].astype(old.dtype)
            for name, old in zip(self.run.names, primals, strict=True)
        )


class _Columns:
    """A gradient `[B, G, S, K]` summed over tiles, by the columns of the grid."""

    def __init__(self, block: int, like: mx.array):
        self.block, self.like = block, like
        self.sums: dict[int, mx.array] = {}

    def starts(self, tile: Tile) -> range:
        """First column under a tile."""
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
        zeros = mx.zeros_like(upcast(self.like))
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


def _of_heads(sinks: mx.array, like: mx.array) -> mx.array:
    """Sinks `[H]` as `[G, H / G, 1, 1]`, beside scores `[B, G, H / G, n, m]`."""
    return upcast(sinks).reshape(*like.shape[1:3], 1, 1)
