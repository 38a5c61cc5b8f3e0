"""Recurrent decoders with attention to the source before or after the cell, or without any.

    before   c_t from h_{t-1};  h_t = cell([x_t; c_t], h_{t-1});  y_t = maxout(W [h_t; x_t; c_t])
    after    h_t = cell(x_t, h_{t-1});  c_t from h_t;  y_t = tanh(W [c_t; h_t])
    none     h_t = cell(x_t, h_{t-1});  y_t = h_t

Bahdanau et al. 2015 (equations 4 to 6, A.2.2), Luong et al. 2015 (equation 5), Sutskever et al.
2014. With input feeding `after` reads `[x_t; y_{t-1}]` (Luong et al. 2015, section 3.3).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import mlx.core as mx
import mlx.nn as nn

from ..core.context import Context
from ..ops.recurrent_matmul import recurrent_matmul
from ..ops.unstack import unstack
from .kinds import AlignKind, Alignment, State
from .linear import matrix
from .recurrence import Loop, Recurrence

Attend = Literal["before", "after"]
Choose = Callable[[int, mx.array, mx.array], mx.array]
"""`(t, teacher-forced input of step t + 1 [B, I], y_t [B, D]) -> the input of step t + 1`."""


@dataclass(frozen=True)
class KeyedMemory:
    """The source that a decoder attends to.

    Attributes:
        memory: encoder outputs, `[B, S, D]`.
        keys: `[B, S, A]`, computed from the memory once for all steps.
        valid: `[B, S]`, False on padding; None: no padding.
    """

    memory: mx.array
    keys: mx.array
    valid: mx.array | None


class AttentiveDecoder(nn.Module):
    """`(x [B, T, D], state, source) -> (y [B, T, D], weights [B, T, S], state)`.

    Without an alignment, source and weights are None. A state holds the states of the layers
    (`cells`), the last output where it is fed back (`last_output`), and the number of steps so far
    (`offset`).
    """

    def __init__(
        self,
        config: Recurrence,
        dim: int,
        align: AlignKind | None,
        attend: Attend,
        input_feeding: bool,
    ) -> None:
        super().__init__()
        self.before = align is not None and attend == "before"
        self.input_feeding = input_feeding
        self.dim = dim
        self.stack = config.build(2 * dim if self.before or input_feeding else dim, dim)
        self.align_kind = align
        if align is not None:
            self.align: Alignment = align.build(dim)
            self.out = nn.Linear(3 * dim if self.before else 2 * dim, (1 + self.before) * dim)

    def flops(self, length: int) -> float:
        """Forward operations of the attention per target token over a source of `length` tokens,
        beyond two for each weight."""
        return 0.0 if self.align_kind is None else self.align_kind.flops(self.dim, length)

    def init_state(self, cells: list[State]) -> State:
        """The state before the first target token, with the states `cells` of the layers."""
        state: State = {"offset": mx.array(0), "cells": cells}
        if self.input_feeding:
            state["last_output"] = mx.zeros_like(cells[-1]["h"])
        return state

    def make_keys(self, memory: mx.array, valid: mx.array | None) -> KeyedMemory | None:
        """Compute the keys of a source once for all steps; None without an alignment."""
        if "align" not in self:
            return None
        return KeyedMemory(memory, self.align.make_keys(memory), valid)

    def __call__(
        self,
        x: mx.array,
        state: State,
        source: KeyedMemory | None,
        ctx: Context,
        choose: Choose | None = None,
    ) -> tuple[mx.array, mx.array | None, State]:
        if self.before or self.input_feeding or choose is not None:
            return self._step_by_step(x, state, source, ctx, choose)
        h, cells = self.stack(x, state["cells"], ctx)
        after = {"offset": state["offset"] + x.shape[1], "cells": cells}
        if source is None:
            return h, None, after
        weights = self.align(h, source.keys, source.valid, state["offset"])
        y = mx.tanh(self.out(mx.concatenate([weights @ source.memory, h], axis=-1)))
        return y, weights, after

    def _step_by_step(
        self,
        x: mx.array,
        state: State,
        source: KeyedMemory | None,
        ctx: Context,
        choose: Choose | None,
    ) -> tuple[mx.array, mx.array | None, State]:
        B, T, _ = x.shape
        loop = Loop(self.stack, B, T, ctx)
        attention = None if source is None else _StepAttention(self, source, B, T, state["offset"])
        cells, last_output = state["cells"], state.get("last_output")
        forced, ys = unstack(x), []
        inputs = forced[0]
        for t in range(T):
            if attention is None:
                cells = loop(t, inputs, cells)
                y = cells[-1]["h"]
            elif self.before:
                context = attention.attend(cells[-1]["h"])
                cells = loop(t, mx.concatenate([inputs, context], axis=-1), cells)
                pairs = attention.out(cells[-1]["h"], inputs, context)
                y = pairs.reshape(B, self.dim, 2).max(axis=-1)
            else:
                if last_output is not None:
                    inputs = mx.concatenate([inputs, last_output], axis=-1)
                cells = loop(t, inputs, cells)
                y = mx.tanh(attention.out(attention.attend(cells[-1]["h"]), cells[-1]["h"]))
                last_output = y if self.input_feeding else None
            ys.append(y)
            if t + 1 < T:
                inputs = forced[t + 1] if choose is None else choose(t, forced[t + 1], y)
        after = {"offset": state["offset"] + T, "cells": cells}
        after |= {"last_output": last_output} if self.input_feeding else {}
        return mx.stack(ys, axis=1), None if attention is None else attention.weights(), after


class _StepAttention:
    """Attention of a decoder to its source, one call per step of a loop."""

    def __init__(
        self,
        decoder: AttentiveDecoder,
        source: KeyedMemory,
        batch: int,
        length: int,
        offset: mx.array,
    ) -> None:
        self._decoder, self._source, self._offset = decoder, source, offset
        query = decoder.align.query
        self._query = None if query is None else recurrent_matmul(query, batch, length)
        self._out = recurrent_matmul(matrix(decoder.out), batch, length)
        self._weights: list[mx.array] = []

    def attend(self, h: mx.array) -> mx.array:
        """The context vector `[B, D]` of a decoder state `[B, D]`."""
        source, query = self._source, self._query
        project = None if query is None else lambda h: query(h[:, 0])[:, None]
        offset = self._offset + len(self._weights)
        weights = self._decoder.align(h[:, None], source.keys, source.valid, offset, project)
        self._weights.append(weights[:, 0])
        return (weights @ source.memory)[:, 0]

    def out(self, *parts: mx.array) -> mx.array:
        """The decoder's output layer, applied to the concatenated parts."""
        bias: mx.array = self._decoder.out.bias
        return self._out(mx.concatenate(list(parts), axis=-1)) + bias

    def weights(self) -> mx.array:
        """The attention weights of all steps so far, `[B, T, S]`."""
        return mx.stack(self._weights, axis=1)
