"""Protocols of the modules that fill the layer slots, and the types of their arguments."""

from collections.abc import Callable
from typing import Any, ClassVar, Protocol

import mlx.core as mx
import mlx.nn as nn

from ..core.context import Context

State = dict[str, Any]
"""A decode state: a tree of arrays whose shapes don't change from step to step."""
LinearFactory = Callable[..., nn.Module]
"""`(dim_in, dim_out, bias=...) -> module`: `nn.Linear`, or a stack of them over experts."""
Apply = Callable[[Any, mx.array], mx.array]
"""`(linear, x) -> linear(x)`, or each row of x through the weights of its own expert."""


StateProduct = Callable[[mx.array], mx.array]
"""A product of a recurrent state `[B, D]` with the weights of some gates, `[B, n * D]`, no bias."""
Project = Callable[[mx.array], mx.array]
"""A linear layer without bias, `[B, T, D] -> [B, T, A]`."""


class Mixer(Protocol):
    """Moves information between positions: `(x [B, T, D], ctx) -> [B, T, D]`."""

    def __call__(self, x: mx.array, ctx: Context) -> mx.array: ...

    def init_state(self, batch: int, length: int, dtype: mx.Dtype) -> State:
        """The decode state of `batch` empty rows that will hold at most `length` tokens."""
        ...

    def step(self, x: mx.array, state: State, ctx: Context) -> tuple[mx.array, State]:
        """Continue every row by the T tokens of `x [B, T, D]`; returns the output and new state."""
        ...


class CrossMixer(Mixer, Protocol):
    """A mixer that reads an encoder's output, `ctx.memory [B, S, D]`."""

    def project_memory(self, memory: mx.array | None) -> State:
        """The decode state: keys and values of `memory`, computed once per source."""
        ...


class Ffn(Protocol):
    """Transforms each position on its own: `(x [..., D], ctx) -> [..., D]`."""

    def __call__(self, x: mx.array, ctx: Context) -> mx.array: ...


class RecurrentFfn(Ffn, Protocol):
    """An ffn that reads earlier tokens too, so that it has a decode state, as a mixer has."""

    def init_state(self, batch: int, length: int, dtype: mx.Dtype) -> State:
        """The decode state of `batch` empty rows that will hold at most `length` tokens."""
        ...

    def step(self, x: mx.array, state: State, ctx: Context) -> tuple[mx.array, State]:
        """Continue every row by the T tokens of `x [B, T, D]`; returns the output and new state."""
        ...


class Expert(Protocol):
    """An ffn that can also run as E experts at once: `(x, ctx, apply) -> [..., D]`."""

    def __call__(self, x: mx.array, ctx: Context, apply: Apply = ...) -> mx.array: ...

    def parameters(self) -> dict[str, Any]:
        """The weights, by name."""
        ...


class Norm(Protocol):
    """Normalises the last axis: `x [..., D] -> [..., D]`."""

    def __call__(self, x: mx.array) -> mx.array: ...


class Head(Protocol):
    """Reads the output of a stack: `(h [B, T, D], tied table) -> [B, T, V or classes]`."""

    def __call__(self, h: mx.array, table: nn.Embedding | None) -> mx.array: ...


class Pool(Protocol):
    """Reads one vector of a sequence: `(x [B, T, D], ctx) -> [B, width]`."""

    def __call__(self, x: mx.array, ctx: Context) -> mx.array: ...


class RecurrentCell(Protocol):
    """A recurrent cell over time: `(x [B, T, I], state, ctx) -> (y [B, T, D], state)`.

    Attributes:
        states: names of the arrays of a state.
        dim: units D.
        x: the linear layer of the inputs, `[n_gates * D, I]`.
    """

    states: ClassVar[tuple[str, ...]]
    dim: int
    x: nn.Linear

    def __call__(self, x: mx.array, state: State, ctx: Context) -> tuple[mx.array, State]: ...

    def init_state(self, batch: int, dtype: mx.Dtype) -> State:
        """The zero state of `batch` rows: arrays `[B, D]` by name, the output as `h`."""
        ...

    def advance(self, x: mx.array, state: State, *u: StateProduct) -> State:
        """One step from `x [B, n_gates * D]`, inputs after their linear layer."""
        ...

    def products_over(self, ctx: Context, batch: int, length: int) -> list[StateProduct]:
        """The products with the state that `advance` takes, for a loop over `length` steps."""
        ...


class Alignment(Protocol):
    """Attention of a recurrent decoder: `(h [B, T, D], keys, ...) -> weights [B, T, S]`."""

    @property
    def query(self) -> mx.array | None:
        """The weight `[A, D]` that projects queries; None: no projection."""
        ...

    def make_keys(self, memory: mx.array) -> mx.array:
        """Keys `[B, S, A]` of a memory `[B, S, D]`, computed once per source."""
        ...

    def scores(self, h: mx.array, keys: mx.array, project: Project | None = None) -> mx.array:
        """Scores `[B, T, S]` in float32; `project` replaces the projection of queries in loops."""
        ...

    def __call__(
        self,
        h: mx.array,
        keys: mx.array,
        valid: mx.array | None = None,
        offset: mx.array | int = 0,
        project: Project | None = None,
    ) -> mx.array:
        """The weights; `valid [B, S]` masks the source, `offset` is the position of `h[:, 0]`."""
        ...


class Router(Protocol):
    """Chooses experts: `(x [..., D], ctx) -> gates [..., k] float32, choice [..., k] integer`.

    A choice with gate 0 is not routed.
    """

    def __call__(self, x: mx.array, ctx: Context) -> tuple[mx.array, mx.array]: ...


class Embed(Protocol):
    """Embeds tokens: `(tokens [B, T], ctx, table) -> [B, T, D]`; without `table` uses its own."""

    table: nn.Embedding

    def __call__(
        self, tokens: mx.array, ctx: Context, table: nn.Embedding | None = None
    ) -> mx.array: ...


RunLayer = Callable[[int, mx.array], mx.array]
"""`(i, x [B, T, D]) -> [B, T, D]`: layer i of a stack, over a sequence or a decoding step."""


class Depth(Protocol):
    """Walks through the layers of a stack: `(x [B, T, D], ctx, n_layers, run) -> [B, T, D]`."""

    def __call__(self, x: mx.array, ctx: Context, n_layers: int, run: RunLayer) -> mx.array: ...
