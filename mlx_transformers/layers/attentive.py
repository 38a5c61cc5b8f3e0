"""Recurrent decoders that look back at the source, and one that does not.

    before   c_t from h_{t-1};  h_t = cell([x_t; c_t], h_{t-1});  y_t = maxout(W [h_t; x_t; c_t])
    after    h_t = cell(x_t, h_{t-1});  c_t from h_t;  y_t = tanh(W [c_t; h_t])
    none     h_t = cell(x_t, h_{t-1});  y_t = h_t

Bahdanau et al. 2015 (equations 4 to 6, A.2.2), Luong et al. 2015 (equation 5), Sutskever et al.
2014. With input feeding `after` reads `[x_t; y_{t-1}]` (Luong et al. 2015, section 3.3).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import mlx.core as mx
import mlx.nn as nn

from ..core.context import Context
from ..ops.recall import repeated
from ..ops.unstack import unstack
from .kinds import AlignKind, Alignment, State
from .linear import matrix
from .recurrence import Loop, Recurrence

Attend = Literal["before", "after"]
Choose = Callable[[int, mx.array, mx.array], mx.array]
"""`(t, what stands at step t + 1 [B, I], y_t [B, D]) -> the input of step t + 1`."""


@dataclass(frozen=True)
class Source:
    """What a decoder looks back at.

    Attributes:
        memory, keys: `[B, S, D]`, and what the alignment made of it.
        valid: `[B, S]`, which source tokens exist; None means all.
    """

    memory: mx.array
    keys: mx.array
    valid: mx.array | None


class AttentiveDecoder(nn.Module):
    """`(x [B, T, D], state, source) -> (y [B, T, D], weights [B, T, S], state)`.

    Without an alignment there are no source and no weights: None. A state holds those of the layers
    (`cells`), the last output where it is fed back (`fed`), and the number of steps so far
    (`offset`).
    """

    def __init__(
        self, config: Recurrence, dim: int, align: AlignKind | None, attend: Attend, feeding: bool
    ) -> None:
        super().__init__()
        self.before = align is not None and attend == "before"
        self.feeding = feeding
        self.dim = dim
        self.stack = config.build(2 * dim if self.before or feeding else dim, dim)
        if align is not None:
            self.align: Alignment = align.build(dim)
            self.out = nn.Linear(3 * dim if self.before else 2 * dim, (1 + self.before) * dim)

    def begin(self, cells: list[dict[str, mx.array]]) -> State:
        """The state before the first target token, the layers being in the states `cells`."""
        state: State = {"offset": mx.array(0), "cells": cells}
        return state | {"fed": mx.zeros_like(cells[-1]["h"])} if self.feeding else state

    def look(self, memory: mx.array, valid: mx.array | None) -> Source | None:
        """A source with its keys made, once for all steps."""
        if "align" not in self:
            return None
        return Source(memory, self.align.make_keys(memory), valid)

    def __call__(
        self,
        x: mx.array,
        state: State,
        source: Source | None,
        ctx: Context,
        choose: Choose | None = None,
    ) -> tuple[mx.array, mx.array | None, State]:
        if self.before or self.feeding or choose is not None:
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
        source: Source | None,
        ctx: Context,
        choose: Choose | None,
    ) -> tuple[mx.array, mx.array | None, State]:
        B, T, _ = x.shape
        loop = Loop(self.stack, B, T, ctx)
        lens = None if source is None else _Lens(self, source, B, T, state["offset"])
        cells, fed = state["cells"], state.get("fed")
        given, ys = unstack(x), []
        at = given[0]
        for t in range(T):
            if lens is None:
                cells = loop(t, at, cells)
                y = cells[-1]["h"]
            elif self.before:
                context = lens.look(cells[-1]["h"])
                cells = loop(t, mx.concatenate([at, context], axis=-1), cells)
                pairs = lens.out(cells[-1]["h"], at, context)
                y = pairs.reshape(B, self.dim, 2).max(axis=-1)
            else:
                inputs = at if fed is None else mx.concatenate([at, fed], axis=-1)
                cells = loop(t, inputs, cells)
                y = mx.tanh(lens.out(lens.look(cells[-1]["h"]), cells[-1]["h"]))
                fed = y if self.feeding else None
            ys.append(y)
            if t + 1 < T:
                at = given[t + 1] if choose is None else choose(t, given[t + 1], y)
        after = {"offset": state["offset"] + T, "cells": cells}
        after |= {"fed": fed} if self.feeding else {}
        return mx.stack(ys, axis=1), None if lens is None else lens.weights(), after


class _Lens:
    """A decoder's looks at the source, one for each step of a loop."""

    def __init__(
        self, decoder: AttentiveDecoder, source: Source, batch: int, length: int, offset: Any
    ) -> None:
        self._decoder, self._source, self._offset = decoder, source, offset
        query = decoder.align.query
        self._ask = None if query is None else repeated(query, batch, length)
        self._out = repeated(matrix(decoder.out), batch, length)
        self._seen: list[mx.array] = []

    def look(self, h: mx.array) -> mx.array:
        """The context `[B, D]` that a state `[B, D]` asks for."""
        source, ask = self._source, self._ask
        mapped = None if ask is None else lambda h: ask(h[:, 0])[:, None]
        offset = self._offset + len(self._seen)
        weights = self._decoder.align(h[:, None], source.keys, source.valid, offset, mapped)
        self._seen.append(weights[:, 0])
        return (weights @ source.memory)[:, 0]

    def out(self, *parts: mx.array) -> mx.array:
        """The map of parts side by side."""
        return self._out(mx.concatenate(list(parts), axis=-1)) + self._decoder.out.bias

    def weights(self) -> mx.array:
        """Those of all looks, `[B, T, S]`."""
        return mx.stack(self._seen, axis=1)
