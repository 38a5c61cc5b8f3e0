"""The codebook of a VQ-VAE: each vector becomes the nearest of K learned ones."""

from typing import ClassVar

import mlx.core as mx
import mlx.nn as nn

from ..core.context import Context
from ..ops.device import upcast
from .hooks import AfterStep
from .parameter import Role


class Codebook(nn.Module, AfterStep):
    """`(z [..., C], ctx) -> codes [..., C], indices [...]`; gradients pass straight through.

    Van den Oord et al. 2017, section 3.1. The codes have no gradient: each is a moving mean of the
    vectors that chose it (appendix A.1, equations 6 to 8). A code that hardly any vector chooses is
    moved into the cluster with the largest summed error, at its usual distance from the centre.

    Args:
        n_codes: K.
        width: C, width of a code.
        decay: γ of the moving means.
        revive: a code is moved when its share of the vectors falls below `revive / K`.

    `cluster_size [K]` is the moving mean of the share of the vectors that choose each code.
    """

    roles: ClassVar[dict[str, Role]] = {"codes": "own", "cluster_size": "own"}

    def __init__(self, n_codes: int, width: int, decay: float, revive: float) -> None:
        super().__init__()
        self.n_codes, self.decay, self.revive = n_codes, decay, revive
        self.codes = mx.random.normal((n_codes, width))
        self.cluster_size = mx.full((n_codes,), 1 / n_codes)
        self.freeze(keys=["codes", "cluster_size"], recurse=False)

    def __call__(self, z: mx.array, ctx: Context) -> tuple[mx.array, mx.array]:
        indices = self.nearest(z)
        chosen = self.read(indices).astype(z.dtype)
        if ctx.training:
            self._report(upcast(mx.stop_gradient(z)), indices, ctx)
        return z + mx.stop_gradient(chosen - z), indices

    def nearest(self, z: mx.array) -> mx.array:
        """The index of the code nearest to each vector `[..., C]`, `[...]`."""
        z = upcast(mx.stop_gradient(z))
        codes = self.codes.astype(mx.float32)
        # |z|² is the same for all codes of a vector.
        return ((codes * codes).sum(axis=-1) - 2 * (z @ codes.T)).argmin(axis=-1)

    def read(self, indices: mx.array) -> mx.array:
        """The codes `[..., C]` of indices `[...]`."""
        return mx.take(self.codes, indices, axis=0)

    def _report(self, z: mx.array, indices: mx.array, ctx: Context) -> None:
        flat, chosen = z.reshape(-1, z.shape[-1]), indices.reshape(-1)
        n, empty = len(flat), mx.zeros((self.n_codes,))
        error = mx.square(flat - self.read(chosen)).sum(axis=-1)
        sums = mx.zeros((self.n_codes, flat.shape[-1])).at[chosen].add(flat)
        size = empty.at[chosen].add(mx.ones((n,))) / n
        self.report(ctx, "cluster_size", size)
        self.report(ctx, "sums", sums / n)
        self.report(ctx, "errors", empty.at[chosen].add(error) / n)
        ctx.collected.add_stat("used_codes", (size > 0).astype(mx.float32).mean())

    def after_step(self, stats: dict[str, mx.array], finite: mx.array) -> None:
        """Move each code to the mean of its vectors, and revive those that are hardly used.

        `stats` has the mean over the step's vectors of: choosing a code (`cluster_size [K]`), the
        vector that chose it (`sums [K, C]`), and its squared distance (`errors [K]`).
        """
        new, old = 1 - self.decay, self.decay * self.cluster_size
        size = old + new * stats["cluster_size"]
        codes = old[:, None] * self.codes + new * stats["sums"]
        # A code that no vector has chosen for long, whose quotient is 0 / 0, stays where it is.
        used = size[:, None] > 1e-12
        codes = mx.where(used, codes / mx.maximum(size, 1e-12)[:, None], self.codes)
        dead = size < self.revive / self.n_codes
        rank = mx.cumsum(dead.astype(mx.int32)) - 1
        # Each dead code gets a cluster of its own, the worst first, as long as there are any.
        worst = mx.argsort(-mx.where(dead, -1.0, stats["errors"]))
        cluster = mx.take(worst, mx.remainder(mx.maximum(rank, 0), (~dead).sum()))
        variance = stats["errors"] / mx.maximum(stats["cluster_size"], 1e-12) / codes.shape[-1]
        away = mx.random.normal(codes.shape, key=mx.random.key(0))
        moved = codes[cluster] + mx.sqrt(variance[cluster])[:, None] * away
        codes = mx.where(dead[:, None], moved, codes)
        size = mx.where(dead, 1 / self.n_codes, size)
        self.codes = mx.where(finite, codes, self.codes)
        self.cluster_size = mx.where(finite, size, self.cluster_size)
