"""The simple recurrent network."""

from typing import Literal

import mlx.core as mx

from ..kinds import State, StateProduct
from .cell import Cell, CellModule


class Rnn(Cell):
    """The simple recurrent network: `h_t = f(W x_t + U h_{t-1} + b)`; Elman 1990.

    Le et al. 2015 use `relu` and initialise U as the identity.
    """

    kind: Literal["rnn"] = "rnn"
    activation: Literal["tanh", "relu"] = "tanh"
    """The nonlinearity f."""

    saved_per_unit = 2

    def build(self, in_dim: int, dim: int) -> "RnnCell":
        return RnnCell(self, in_dim, dim)


class RnnCell(CellModule):
    """A simple recurrent cell: one gate, state h."""

    n_gates = 1

    def __init__(self, config: Rnn, in_dim: int, dim: int) -> None:
        super().__init__(config, in_dim, dim)
        self.activation = config.activation

    def advance(self, x: mx.array, state: State, *u: StateProduct) -> State:
        z = x + u[0](state["h"])
        return {"h": mx.tanh(z) if self.activation == "tanh" else mx.maximum(z, 0)}
