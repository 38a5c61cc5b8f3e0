"""The gated recurrent unit."""

from typing import Literal

import mlx.core as mx

from ...ops.unstack import split_last
from ..kinds import State, StateProduct
from .cell import Cell, CellModule


class Gru(Cell):
    """The gated recurrent unit: a gate z per unit keeps the state or replaces it.

        r, z = σ(W x_t + U h_{t-1} + b)        n = tanh(W x_t + U (r · h_{t-1}) + b)
        h_t = z · h_{t-1} + (1 - z) · n

    Cho et al. 2014, equations 5 to 8.
    """

    kind: Literal["gru"] = "gru"
    reset: Literal["before", "after"] = "before"
    """Whether r resets the state before the product with U, as in the paper, or after it:
    `n = tanh(W x_t + r · (U h_{t-1} + c) + b)`, as in cuDNN and PyTorch, which needs one matrix
    product a step instead of two."""

    saved_per_unit = 6

    def build(self, in_dim: int, dim: int) -> "GruCell":
        return GruCell(self, in_dim, dim)


class GruCell(CellModule):
    """A GRU cell: gates in the order r z n, state h."""

    n_gates = 3

    def __init__(self, config: Gru, in_dim: int, dim: int) -> None:
        super().__init__(config, in_dim, dim, bias=config.reset == "after")
        self.reset = config.reset

    @property
    def products(self) -> tuple[int, ...]:
        return (3,) if self.reset == "after" else (2, 1)

    def advance(self, x: mx.array, state: State, *u: StateProduct) -> State:
        h = state["h"]
        if self.reset == "after":
            (xr, xz, xn), (ur, uz, un) = split_last(x, 3), split_last(u[0](h) + self.h.bias, 3)
            n = mx.tanh(xn + mx.sigmoid(xr + ur) * un)
        else:
            (xr, xz, xn), (ur, uz) = split_last(x, 3), split_last(u[0](h), 2)
            n = mx.tanh(xn + u[1](mx.sigmoid(xr + ur) * h))
        return {"h": n + mx.sigmoid(xz + uz) * (h - n)}
