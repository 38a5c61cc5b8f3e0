"""Shared part of recurrent cells: a loop over time around one step.

    h_t = f(W x_t + b, h_{t-1})

`W x + b` of all positions is one matrix product before the loop (Appleyard et al. 2016, section
3.1.4); in the loop there is only the product with the state.
"""

from dataclasses import replace
from typing import ClassVar

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field

from ...core.context import Context
from ...core.footprint import ActivationShape
from ...core.shapes import BT_, BTD
from ...ops.recurrent_matmul import recurrent_matmul
from ...ops.unstack import unstack
from ..kinds import CellKind, RecurrentCell, State, StateProduct
from ..linear import matrix


class Cell(CellKind):
    """Shared fields of the recurrent cells."""

    weight_drop: float = Field(0.0, ge=0, lt=1)
    """DropConnect on the recurrent weights: share of the state-to-state connections dropped in a
    training pass (Merity et al. 2017, section 2)."""

    saved_per_unit: ClassVar[int]
    """Numbers per unit and position that the forward saves for its backward."""

    def saved_bytes(self, in_dim: int, dim: int, at: ActivationShape) -> float:
        """Input, gates and states."""
        return float((in_dim + self.saved_per_unit * dim) * at.itemsize)


class CellModule(nn.Module):
    """`(x [B, T, I], state, ctx) -> (y [B, T, D], state)`, a state being arrays `[B, D]` by name.

    A kind defines the number of gates, the names of its states, and one step. The state is reset
    where a document begins (`layout.segments`) and does not change on padding (`layout.valid`).
    """

    n_gates: ClassVar[int]
    states: ClassVar[tuple[str, ...]] = ("h",)

    @property
    def products(self) -> tuple[int, ...]:
        """Number of gates that each product with the state computes, in one step."""
        return (self.n_gates,)

    def __init__(self, config: Cell, in_dim: int, dim: int, bias: bool = False) -> None:
        super().__init__()
        self.dim = dim
        self.x = nn.Linear(in_dim, self.n_gates * dim)
        self.h = nn.Linear(dim, self.n_gates * dim, bias=bias)
        self.weight_drop = config.weight_drop

    def init_state(self, batch: int, dtype: mx.Dtype) -> State:
        """Zeros, `[B, D]` by name of state."""
        return {name: mx.zeros((batch, self.dim), dtype) for name in self.states}

    def advance(self, x: mx.array, state: State, *u: StateProduct) -> State:
        """Compute one step.

        Args:
            x: `W x_t + b`, `[B, n_gates * D]`.
            state: the state before the step.
            u: the products with the state (`products`), each called once.
        """
        raise NotImplementedError(f"{type(self).__name__} has no step.")

    def __call__(self, x: BT_, state: State, ctx: Context) -> tuple[BTD, State]:
        products = self.products_over(ctx, *x.shape[:2])
        dtypes = {name: value.dtype for name, value in state.items()}
        state = {name: value.astype(x.dtype) for name, value in state.items()}
        same_document = _same_document(ctx)
        outs = []
        for t, part in enumerate(unstack(self.x(x))):
            if same_document is not None and t:
                state = {k: mx.where(same_document[:, t, None], v, 0) for k, v in state.items()}
            after = self.advance(part, state, *products)
            if ctx.layout.valid is not None:
                valid = ctx.layout.valid[:, t, None]
                after = {k: mx.where(valid, v, state[k]) for k, v in after.items()}
            state = after
            outs.append(state["h"])
        return mx.stack(outs, axis=1), {k: v.astype(dtypes[k]) for k, v in state.items()}

    def products_over(self, ctx: Context, batch: int, length: int) -> list[StateProduct]:
        """The products with the state that `advance` takes, for a loop over `length` steps."""
        weight = ctx.dropout(matrix(self.h), self.weight_drop)
        ends = [sum(self.products[: i + 1]) * self.dim for i in range(len(self.products) - 1)]
        parts = mx.split(weight, ends) if ends else [weight]
        return [recurrent_matmul(part, batch, length) for part in parts]


def reversed_in_time(cell: RecurrentCell, x: mx.array, ctx: Context) -> tuple[mx.array, State]:
    """Run the cell backwards over time, from the zero state."""
    rows = ctx.layout
    layout = replace(
        rows,
        segments=None if rows.segments is None else rows.segments[:, ::-1],
        valid=None if rows.valid is None else rows.valid[:, ::-1],
    )
    reversed_ctx = replace(ctx, layout=layout)
    y, state = cell(x[:, ::-1], cell.init_state(x.shape[0], x.dtype), reversed_ctx)
    ctx.key = reversed_ctx.key
    return y[:, ::-1], state


def _same_document(ctx: Context) -> mx.array | None:
    """`[B, T]`: whether a position belongs to the same document as the one before it."""
    if ctx.layout.segments is None:
        return None
    same = ctx.layout.segments[:, 1:] == ctx.layout.segments[:, :-1]
    return mx.pad(same, [(0, 0), (1, 0)], constant_values=True)
