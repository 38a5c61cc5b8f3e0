"""GPTQ: rounds a matrix column by column, and lets later columns make up for the error.

Frantar et al. 2022, algorithm 1.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import mlx.core as mx
import numpy as np

from .hessian import DAMP, inverse_factor, silence_dead
from .packed import Packing, pack

BLOCK = 128
"""Columns between two updates of all later columns."""


class Levels(Protocol):
    """The values that weights of one group may take."""

    def codes(self, column: np.ndarray) -> np.ndarray:
        """The nearest codes of a column `[out]`."""

    def values(self, codes: np.ndarray) -> np.ndarray:
        """The numbers of codes `[out]`."""


class Grids(Protocol):
    """Chooses the levels of a group of columns."""

    def fit(self, group: np.ndarray) -> Levels:
        """The levels of a group `[out, size]`."""


@dataclass(frozen=True)
class MlxLevels:
    """`code · scale + bias`, as MLX's mode `affine` has it."""

    scale: np.ndarray
    bias: np.ndarray
    high: int

    def codes(self, column: np.ndarray) -> np.ndarray:
        codes: np.ndarray = np.clip(np.round((column - self.bias) / self.scale), 0, self.high)
        return codes

    def values(self, codes: np.ndarray) -> np.ndarray:
        values: np.ndarray = codes * self.scale + self.bias
        return values


@dataclass(frozen=True)
class MlxGrids:
    """Levels that `mx.quantize` chooses for a group.

    Attributes:
        how: the packing, of mode `affine`.
        dtype: of the scales and biases.
    """

    how: Packing
    dtype: mx.Dtype = mx.float32

    def fit(self, group: np.ndarray) -> MlxLevels:
        weight = mx.array(group.astype(np.float32)).astype(self.dtype)
        _, *parts = pack(weight, self.how)
        scale, bias = (np.array(p.astype(mx.float32), np.float64)[:, 0] for p in parts)
        return MlxLevels(np.where(scale == 0, 1, scale), bias, 2**self.how.bits - 1)


class Rounded(NamedTuple):
    """A rounded matrix.

    Attributes:
        codes: `[out, in]`, in the order of the matrix.
        values: the numbers of the codes, `[out, in]`.
        levels: those of each group, in the order in which they were rounded.
    """

    codes: np.ndarray
    values: np.ndarray
    levels: list[Levels]


def gptq(
    weight: np.ndarray,
    h: np.ndarray,
    grids: Grids,
    *,
    group: int | None = None,
    by_diagonal: bool = False,
    damp: float = DAMP,
) -> Rounded:
    """Round a matrix so that the outputs of its layer change little.

    Args:
        weight: `[out, in]`.
        h: the Hessian of its inputs, `[in, in]`.
        grids: chooses the levels of each group, from the weights as updated so far.
        group: columns that share levels; None: all of them.
        by_diagonal: round columns in order of decreasing diagonal of H (the code's `act_order`);
            groups are then of that order.
        damp: share of the mean diagonal that is added to the diagonal.
    """
    w, h = silence_dead(np.asarray(weight, np.float64), h)
    order = np.argsort(-np.diag(h), kind="stable") if by_diagonal else np.arange(len(h))
    w, factor = w[:, order], inverse_factor(h[np.ix_(order, order)], damp)
    n, size = w.shape[1], group or w.shape[1]
    block = size if group else min(BLOCK, n)
    codes, values = np.zeros_like(w), np.zeros_like(w)
    levels: list[Levels] = []
    for start in range(0, n, block):
        end = min(start + block, n)
        errors = np.zeros((len(w), end - start))
        for j in range(start, end):
            if j % size == 0:
                levels.append(grids.fit(w[:, j : j + size]))
            codes[:, j] = levels[-1].codes(w[:, j])
            values[:, j] = levels[-1].values(codes[:, j])
            error = (w[:, j] - values[:, j]) / factor[j, j]
            w[:, j:end] -= np.outer(error, factor[j, j:end])
            errors[:, j - start] = error
        w[:, end:] -= errors @ factor[start:end, end:]
    back = np.argsort(order)
    return Rounded(codes[:, back], values[:, back], levels)
