"""Pools whose output is the class of every pair of residues of an alignment."""

from math import isqrt
from typing import Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field

from ..core.context import Context
from ..core.errors import RecipeError
from .evoformer.alignment import OuterProductMean
from .kinds import PoolKind


class Distogram(PoolKind):
    """Logits of the classes of pairs from their vectors: `W (z_ij + z_ji) + b`.

    Jumper et al. 2021, supplement, section 1.9.8. Class 0 is a contact.
    """

    kind: Literal["distogram"] = "distogram"
    n_classes: int = Field(2, ge=2)
    """Classes of a pair: bins of its distance."""

    def build(self, dim: int) -> "DistogramModule":
        return DistogramModule(self, dim)


class OuterProduct(PoolKind):
    """Logits of the classes of pairs from an alignment that is read as one sequence of S · N
    vectors: a distogram of its outer product mean (Jumper et al. 2021, supplement, algorithm 10).
    """

    kind: Literal["outer_product"] = "outer_product"
    n_classes: int = Field(2, ge=2)
    """Classes of a pair: bins of its distance."""
    length: int = Field(ge=1)
    """Residues N of a sequence."""
    outer_dim: int = Field(8, ge=1)
    """Width of the vectors that are multiplied."""
    pair_dim: int = Field(32, ge=1)
    """Width of the vectors of pairs."""

    def build(self, dim: int) -> "OuterProductModule":
        return OuterProductModule(self, dim)


class DistogramModule(nn.Module):
    """`(z [B, N², D], ctx) -> [B, N, N, n_classes]`, the same for both orders of a pair."""

    def __init__(self, config: Distogram, dim: int) -> None:
        super().__init__()
        self.o = nn.Linear(dim, config.n_classes)

    def __call__(self, x: mx.array, ctx: Context) -> mx.array:
        n = isqrt(x.shape[1])
        if n * n != x.shape[1]:
            raise RecipeError(
                f"pool.kind = 'distogram' reads the vectors of N² pairs, and this model gives "
                f"{x.shape[1]} vectors. Use it in a model of kind 'evoformer'; 'outer_product' "
                "reads alignments."
            )
        return symmetric(self.o, x.reshape(x.shape[0], n, n, -1))


class OuterProductModule(nn.Module):
    """`(x [B, S * N, D], ctx) -> [B, N, N, n_classes]`."""

    def __init__(self, config: OuterProduct, dim: int) -> None:
        super().__init__()
        self.length = config.length
        self.outer = OuterProductMean(dim, config.pair_dim, config.outer_dim)
        self.norm = nn.LayerNorm(config.pair_dim)
        self.up = nn.Linear(config.pair_dim, 4 * config.pair_dim)
        self.o = nn.Linear(4 * config.pair_dim, config.n_classes)

    def __call__(self, x: mx.array, ctx: Context) -> mx.array:
        rows = as_alignment(x, self.length)
        valid = ctx.layout.valid
        mask = None if valid is None else as_alignment(valid, self.length).astype(x.dtype)
        z = self.outer(rows, mask)
        return symmetric(self.o, nn.relu(self.up(self.norm(z))))


def symmetric(linear: nn.Module, z: mx.array) -> mx.array:
    """Logits of pairs `[B, N, N, C]` from vectors z, the same for (i, j) and (j, i)."""
    y: mx.array = linear(z + z.swapaxes(1, 2))
    return y


def as_alignment(x: mx.array, length: int) -> mx.array:
    """Reshape a flat alignment `[B, S * N, ...]` to `[B, S, N, ...]`, where N is `length`.

    Raises:
        RecipeError: its rows are no whole number of sequences.
    """
    if x.shape[1] % length:
        raise RecipeError(
            f"A row has {x.shape[1]} tokens, which is no whole number of sequences of {length} "
            "residues: set train.seq_len to a multiple of length, the residues of a sequence."
        )
    return x.reshape(x.shape[0], -1, length, *x.shape[2:])
