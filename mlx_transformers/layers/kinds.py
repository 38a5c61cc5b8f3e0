"""Abstract config classes of the layer slots, and protocols of the modules that they build.

A kind subclasses the class of its slot; the registry refuses one that leaves a method out. The
methods that every computing kind has:

    build        the module
    saved_bytes  bytes per token that the forward saves for the backward, for the memory plan
    flops        operations of matrix products per token, beyond two for each weight
    part         the kind as one of n tensor-parallel processes builds it
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Protocol, Self

import mlx.core as mx
import mlx.nn as nn

from ..core.context import Context
from ..core.errors import RecipeError
from ..core.footprint import ActivationShape
from ..recipe.config import Kind
from .linear import ResidualLinear
from .positions.position import Position

State = dict[str, Any]
"""A decode state: a tree of arrays whose shapes don't change from step to step."""
LinearFactory = Callable[..., nn.Module]
"""`(dim_in, dim_out, bias=...) -> module`: `nn.Linear`, or a stack of them over experts."""
Apply = Callable[[Any, mx.array], mx.array]
"""`(linear, x) -> linear(x)`, or each row of x through the weights of its own expert."""


Product = Callable[[mx.array], mx.array]
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

    def advance(self, x: mx.array, state: State, *u: Product) -> State:
        """One step from `x [B, n_gates * D]`, inputs after their linear layer."""
        ...

    def products_over(self, ctx: Context, batch: int, length: int) -> list[Product]:
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


class LayerKind(Kind):
    """A kind that computes on the residual stream of width `dim`.

    Attributes:
        causal: whether an output can be computed without later positions. A kind that needs them
            can't decode, and is refused in a model that predicts the next token.
    """

    causal: ClassVar[bool] = True

    @abstractmethod
    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Bytes per token that the forward saves for its backward, its own output excluded."""

    @abstractmethod
    def flops(self, dim: int, length: int) -> float:
        """Forward operations of matrix products per token of a causal row of `length` tokens, two
        for each multiplication and addition, beyond two for each weight the token meets."""


class SplitKind(LayerKind):
    """A layer whose work tensor-parallel processes can split; by default it can't be."""

    def part(self, dim: int, n: int) -> Self:
        """The kind as one of `n` processes builds it, with its part of the heads or features.

        Raises:
            RecipeError: this kind can't be split, or not evenly.
        """
        raise RecipeError(
            f"kind = '{self.kind}' can't be split across processes: unset train.tensor_parallel."
        )


class MixerKind(SplitKind):
    """Slot `mixer`: attention, convolution, recurrence over time, ..."""

    @property
    def skips_tokens(self) -> bool:
        """Whether it can leave some tokens of a row out: those that `valid` or `cursor.seen` mark
        change nothing for the others, whatever stands between."""
        return False

    @abstractmethod
    def build(self, dim: int) -> Mixer:
        """The module, for a residual stream of width `dim`."""


class CrossMixerKind(MixerKind):
    """A mixer that fills `block.cross`: it reads the output of an encoder."""

    @abstractmethod
    def build(self, dim: int) -> CrossMixer:
        """The module, for a residual stream and a memory of width `dim`."""


class FfnKind(SplitKind):
    """Slot `ffn`: feed-forward networks and mixtures of them."""

    @abstractmethod
    def build(self, dim: int) -> Ffn:
        """The module, for a residual stream of width `dim`."""

    def flops(self, dim: int, length: int) -> float:
        """None beyond two for each weight, unless a kind multiplies activations together."""
        return 0.0


class RecurrentFfnKind(FfnKind):
    """An ffn with a decode state: its output at a token depends on earlier ones (RWKV)."""

    @abstractmethod
    def build(self, dim: int) -> RecurrentFfn:
        """The module, for a residual stream of width `dim`."""


class ExpertKind(FfnKind):
    """An ffn that a mixture can stack: every weight comes from a factory of linear layers."""

    def build(self, dim: int) -> Expert:
        return self.build_experts(dim, nn.Linear, ResidualLinear)

    @abstractmethod
    def build_experts(self, dim: int, linear: LinearFactory, out: LinearFactory) -> Expert:
        """The module with its linear layers made by `linear`, its last one by `out`."""


RunLayer = Callable[[int, mx.array], mx.array]
"""`(i, x [B, T, D]) -> [B, T, D]`: layer i of a stack, over a sequence or a decoding step."""


class Depth(Protocol):
    """Walks through the layers of a stack: `(x [B, T, D], ctx, n_layers, run) -> [B, T, D]`."""

    def __call__(self, x: mx.array, ctx: Context, n_layers: int, run: RunLayer) -> mx.array: ...


class DepthKind(Kind):
    """Slot `depth`: how the layers of a stack follow each other."""

    @abstractmethod
    def build(self, dim: int, n_layers: int) -> Depth:
        """The module, for L layers on a residual stream of width `dim`."""

    @abstractmethod
    def saved_bytes(self, dim: int, at: ActivationShape, n_layers: int) -> float:
        """Bytes per token that the forward saves for its backward, beside the layers' own."""


class NormKind(LayerKind):
    """Slot `norm`."""

    @abstractmethod
    def build(self, dim: int) -> Norm:
        """The module, for vectors of width `dim`."""

    def flops(self, dim: int, length: int) -> float:
        """None: elementwise operations are not counted."""
        return 0.0


class PositionKind(Kind):
    """Slot `position`. Mixers count the memory of a bias that it adds to their scores.

    Attributes:
        adds_to_scores: whether it adds a bias to the attention scores.
    """

    adds_to_scores: ClassVar[bool] = False

    @abstractmethod
    def build(self, dim: int, max_seq_len: int) -> Position:
        """The module, for embeddings of width `dim` and at most `max_seq_len` positions."""


class HeadKind(LayerKind):
    """Slot `head`: reads every position of the last layer's output.

    Logits are not counted as saved: the loss computes them in chunks.
    """

    @abstractmethod
    def build(self, vocab_size: int, dim: int) -> Head:
        """The module, for a residual stream of width `dim`."""

    def flops(self, dim: int, length: int) -> float:
        """None beyond two for each weight."""
        return 0.0


class PoolKind(Kind):
    """Slot `pool`: reads a whole sequence as one vector."""

    @abstractmethod
    def build(self, dim: int) -> Pool:
        """The module, for a residual stream of width `dim`."""


class CellKind(Kind):
    """Slot `cell`: the step of a recurrent layer."""

    @abstractmethod
    def build(self, in_dim: int, dim: int) -> RecurrentCell:
        """A cell of `dim` units that reads vectors of width `in_dim`."""

    @abstractmethod
    def saved_bytes(self, in_dim: int, dim: int, at: ActivationShape) -> float:
        """Bytes per token that the forward saves for its backward."""

    def flops(self, in_dim: int, dim: int, length: int) -> float:
        """None beyond two for each weight: a cell multiplies by nothing else."""
        return 0.0


class AlignKind(Kind):
    """Slot `align`: attention of a recurrent decoder over the source."""

    @abstractmethod
    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Bytes per query that the forward saves for its backward."""

    @abstractmethod
    def build(self, dim: int) -> Alignment:
        """An alignment of decoder states and memories, both of width `dim`."""


class RouterKind(Kind):
    """Slot `router`: chooses `top_k` of E experts for each token."""

    top_k: int

    @abstractmethod
    def build(self, dim: int, n_experts: int) -> Router:
        """The module, for a residual stream of width `dim`.

        Raises:
            RecipeError: it can't choose from `n_experts`.
        """

    @abstractmethod
    def saved_bytes(self, n_experts: int) -> float:
        """Bytes per token that the forward saves for its backward, its input excluded."""


class EmbedKind(LayerKind):
    """Slot `embed`: turns tokens into vectors."""

    @abstractmethod
    def build(self, vocab_size: int, dim: int, table: bool = True) -> Embed:
        """The module; without `table` it reads one that its caller passes."""

    def flops(self, dim: int, length: int) -> float:
        """None beyond two for each weight of a projection: a lookup multiplies nothing."""
        return 0.0

    @abstractmethod
    def position_width(self, dim: int) -> int:
        """Width of the vectors that absolute positions are added to."""


class ScalingKind(Kind):
    """Slot `scaling`: rotary frequencies changed so that a model reads longer contexts."""

    @abstractmethod
    def inv_freq(self, theta: float, width: int, length: mx.array | int) -> mx.array:
        """Radians per position of each rotated pair, `[width / 2]`, float32.

        Args:
            theta: base of the wavelengths.
            width: features that are rotated, twice the pairs.
            length: one more than the largest position of the sequence.
        """

    def size(self) -> float:
        """The factor of rotated queries and keys."""
        return 1.0

    @property
    def recompute_beyond(self) -> int | None:
        """Sequence length at which cached keys must be recomputed; None: never."""
        return None


class InitKind(Kind):
    """Slot `init`: how the weights of a model are drawn."""

    @abstractmethod
    def apply(self, model: nn.Module, n_layers: int) -> None:
        """Set the weights of `model`, whose residual stream 2L linear layers write to."""
