"""Stacked recurrent layers, in one direction or both."""

from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field, model_validator

from ..core.context import Context
from ..core.errors import RecipeError
from ..core.footprint import ActivationShape
from ..core.recompute import recompute
from ..core.shapes import BT_, BTD
from ..ops.recurrent_matmul import recurrent_matmul
from ..recipe.config import Config
from ..recipe.slot import Slot
from .cells.cell import reversed_in_time
from .dropout import Dropout
from .kinds import AlignKind, CellKind, RecurrentCell, State
from .linear import matrix
from .parameter import Place


class Recurrence(Config):
    """L recurrent layers; El Hihi & Bengio 1995, Graves 2013."""

    cell: Annotated[CellKind, Slot("cell")]
    """The recurrent cell of every layer."""
    n_layers: int = Field(ge=1)
    """Layers L."""
    hidden_dim: int | None = Field(None, ge=1)
    """Width of the layers below the last; none means the width of the last."""
    bidirectional: bool = False
    """Whether half of each layer's units read the sequence backwards (Schuster & Paliwal 1997)."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout between the layers (Zaremba et al. 2014)."""
    locked: bool = False
    """Whether dropout draws one mask for all positions of a row (Gal & Ghahramani 2016)."""

    @model_validator(mode="after")
    def _one_layer_has_nothing_between(self) -> "Recurrence":
        if self.n_layers == 1 and self.hidden_dim is not None:
            raise ValueError("hidden_dim is the width below the last layer: with one it is none.")
        if self.n_layers == 1 and self.dropout:
            raise ValueError("dropout is between the layers: with one layer it has no effect.")
        return self

    def widths(self, in_dim: int, dim: int) -> list[tuple[int, int]]:
        """Input and output width of each layer."""
        out = [self.hidden_dim or dim] * (self.n_layers - 1) + [dim]
        return list(zip([in_dim, *out[:-1]], out, strict=True))

    def build(self, in_dim: int, dim: int) -> "RecurrenceModule":
        """Layers that read vectors of `in_dim` and write vectors of `dim`."""
        for _, width in self.widths(in_dim, dim):
            if self.bidirectional and width % 2:
                raise RecipeError(
                    f"A bidirectional layer gives half of its {width} units to each direction: "
                    "make its width even."
                )
        return RecurrenceModule(self, in_dim, dim)

    def layers(self, in_dim: int, dim: int) -> list["RecurrentLayer"]:
        """The layers as sizes, for the memory plan."""
        between = [bool(self.dropout)] * (self.n_layers - 1) + [False]
        directions = 2 if self.bidirectional else 1
        return [
            RecurrentLayer(self.cell, i, o, directions, drops)
            for (i, o), drops in zip(self.widths(in_dim, dim), between, strict=True)
        ]


@dataclass(frozen=True)
class RecurrentLayer:
    """One recurrent layer as sizes, for the memory plan.

    Attributes:
        directions: 2 for a bidirectional layer, else 1.
        dropout: whether dropout follows the layer.
        align: attention to a source behind the layer, if any.
        align_in_loop: whether that attention runs step by step, with the cell.
    """

    cell: CellKind
    in_dim: int
    dim: int
    directions: int
    dropout: bool
    align: AlignKind | None = None
    align_in_loop: bool = False

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Bytes per token that the forward saves for its backward."""
        attention = 0.0
        if self.align is not None:
            attention = self.align.saved_bytes(dim, at) + 6 * dim * at.itemsize
        return self.cell_bytes(at) + attention

    def cell_bytes(self, at: ActivationShape) -> float:
        """Bytes per token that the cells and the dropout behind them save."""
        width = self.dim // self.directions
        cells = self.directions * self.cell.saved_bytes(self.in_dim, width, at)
        return cells + (self.dim if self.dropout else 0)


class LayerModule(nn.Module):
    """A cell, or two that read in opposite directions: `(x, state, ctx) -> (y, state)`."""

    def __init__(self, config: Recurrence, in_dim: int, dim: int) -> None:
        super().__init__()
        width = dim // 2 if config.bidirectional else dim
        self.forward = config.cell.build(in_dim, width)
        if config.bidirectional:
            self.backward = config.cell.build(in_dim, width)

    def init_state(self, batch: int, dtype: mx.Dtype) -> State:
        """The zero state of the forward cell."""
        return self.forward.init_state(batch, dtype)

    def __call__(self, x: BT_, state: State, ctx: Context) -> tuple[BTD, State]:
        y, after = self.forward(x, state, ctx)
        if "backward" in self:
            back, first = reversed_in_time(self.backward, x, ctx)
            y = mx.concatenate([y, back], axis=-1)
            after = {k: mx.concatenate([v, first[k]], axis=-1) for k, v in after.items()}
        return y, after


class RecurrenceModule(nn.Module):
    """`(x [B, T, I], states, ctx) -> (y [B, T, D], states)`, one state per layer.

    Attributes:
        recomputed: indices of layers whose activations are recomputed in the backward pass.
    """

    places: ClassVar[dict[str, Place]] = {"blocks": "layers"}

    def __init__(self, config: Recurrence, in_dim: int, dim: int) -> None:
        super().__init__()
        self.blocks = [LayerModule(config, i, o) for i, o in config.widths(in_dim, dim)]
        self.between = Dropout(config.dropout, config.locked)
        self.recomputed: frozenset[int] = frozenset()

    def layers(self) -> list[LayerModule]:
        """The layers in running order."""
        return self.blocks

    def init_state(self, batch: int, dtype: mx.Dtype) -> list[State]:
        """The zero states of all layers."""
        return [block.init_state(batch, dtype) for block in self.blocks]

    def __call__(self, x: BT_, states: list[State], ctx: Context) -> tuple[BTD, list[State]]:
        after = []
        for i, (block, state) in enumerate(zip(self.blocks, states, strict=True)):
            if i:
                x = self.between(x, ctx)
            key = ctx.split_key()
            x, new = self._run(i, block, x, state, key, ctx)
            after.append(new)
        return x, after

    def _run(
        self,
        i: int,
        block: LayerModule,
        x: mx.array,
        state: State,
        key: mx.array | None,
        ctx: Context,
    ) -> tuple[mx.array, State]:
        def run(x: mx.array, state: State, *keys: mx.array) -> Any:
            layer_ctx = replace(ctx, key=mx.stop_gradient(keys[0]) if keys else None)
            return block(x, state, layer_ctx)

        f = recompute([block], run) if i in self.recomputed else run
        out: tuple[mx.array, State] = f(x, state) if key is None else f(x, state, key)
        return out


class Loop:
    """The layers one step at a time, for a decoder whose input depends on the previous step.

    Made for T steps, so that the gradient of each weight is one product over all of them.
    """

    def __init__(self, stack: RecurrenceModule, batch: int, length: int, ctx: Context) -> None:
        self._cells: list[RecurrentCell] = [block.forward for block in stack.blocks]
        self._inputs = [recurrent_matmul(matrix(cell.x), batch, length) for cell in self._cells]
        self._products = [cell.products_over(ctx, batch, length) for cell in self._cells]
        self._masks = [
            stack.between.masks((batch, length, cell.dim), matrix(cell.x).dtype, ctx)
            for cell in self._cells[:-1]
        ]

    def __call__(self, t: int, x: mx.array, states: list[State]) -> list[State]:
        """The states after step t, whose input is `x [B, I]`."""
        after = []
        for i, (cell, state) in enumerate(zip(self._cells, states, strict=True)):
            if i and (masks := self._masks[i - 1]) is not None:
                x = x * masks[t]
            after.append(cell.advance(self._inputs[i](x) + cell.x.bias, state, *self._products[i]))
            x = after[-1]["h"]
        return after
