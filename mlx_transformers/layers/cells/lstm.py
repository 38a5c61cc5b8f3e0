"""Long short-term memory."""

from typing import ClassVar, Literal

import mlx.core as mx

from ...ops.unstack import split_last
from ..kinds import State, StateProduct
from .cell import Cell, CellModule


class Lstm(Cell):
    """Long short-term memory: a cell state c that gates write, keep and read.

        i, f, o = σ(W x_t + U h_{t-1} + b)        z = tanh(W x_t + U h_{t-1} + b)
        c_t = f · c_{t-1} + i · z                 h_t = o · tanh(c_t)

    Hochreiter & Schmidhuber 1997; the forget gate f is Gers et al. 2000's, without which c only
    grows. No peepholes.
    """

    kind: Literal["lstm"] = "lstm"
    forget_bias: float = 0.0
    """Added to the forget gate, so that an untrained cell remembers (Jozefowicz et al. 2015: 1)."""

    saved_per_unit = 7

    def build(self, in_dim: int, dim: int) -> "LstmCell":
        return LstmCell(self, in_dim, dim)


class LstmCell(CellModule):
    """An LSTM cell: gates in the order i f o z, states h and c."""

    n_gates = 4
    states: ClassVar[tuple[str, ...]] = ("h", "c")

    def __init__(self, config: Lstm, in_dim: int, dim: int) -> None:
        super().__init__(config, in_dim, dim)
        self.forget_bias = config.forget_bias

    def advance(self, x: mx.array, state: State, *u: StateProduct) -> State:
        i, f, o, z = split_last(x + u[0](state["h"]), 4)
        if self.forget_bias:
            f = f + self.forget_bias
        c = mx.sigmoid(f) * state["c"] + mx.sigmoid(i) * mx.tanh(z)
        return {"h": mx.sigmoid(o) * mx.tanh(c), "c": c}
