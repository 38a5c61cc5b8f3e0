"""The context of a forward pass: inputs and side outputs of layers beside activations."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import mlx.core as mx

from .score_bias import DistanceBias


class Positions:
    """How positions enter a stack: each method has the identity as its default."""

    def embed(self, x: mx.array, ctx: "Context") -> mx.array:
        """Add absolute positions to the embeddings `x [B, T, D]`."""
        return x

    def counted(self, length: int, ctx: "Context") -> mx.array:
        """Absolute positions of T = `length` tokens, `[T]`, or `[B, T]` where rows differ."""
        return mx.arange(length) + ctx.cursor.offset

    def rotate(self, q: mx.array, k: mx.array, ctx: "Context") -> tuple[mx.array, mx.array]:
        """Rotate queries `[B, H, T, K]` and keys `[B, G, T, K]` by their positions."""
        return q, k

    def bias(
        self, q: mx.array, k: mx.array, q_pos: mx.array, k_pos: mx.array, ctx: "Context"
    ) -> mx.array | None:
        """A bias of the attention scores, broadcastable to `[B, H, T, S]`; None: no bias.

        Args:
            q, k: scaled queries `[B, H, T, K]` and keys `[B, G, S, K]`, rotated.
            q_pos, k_pos: their positions `[T]` and `[S]`; only differences are meaningful.
            ctx: the context of the pass.
        """
        return None

    def summary_bias(self, ahead: mx.array) -> mx.array | None:
        """A bias of the scores of block summaries, `[1 or B, H, T, N]`, by how many blocks `ahead`
        `[1 or B, T, N]` of the query's own each is; None: no bias."""
        return None

    def distance_bias(self, q: mx.array, k: mx.array, ctx: "Context") -> DistanceBias | None:
        """`bias` of a whole row by distance, for scaled queries `[B, H, T, K]` and keys `[B, G, T,
        K]`, whose memory grows with T; None: there is none, or it isn't known by distance."""
        return None

    def relative(self, q_pos: mx.array, k_pos: mx.array) -> tuple[mx.array, mx.array] | None:
        """A table of relative positions `[N, D]` and the row of each pair `[T, S]`, if any."""
        return None


NO_POSITIONS = Positions()


@dataclass(frozen=True)
class Layout:
    """Facts about the rows of a batch.

    Attributes:
        causal: whether a token sees only itself and its past.
        positions: `[B, T]` absolute positions; None: `cursor.offset + arange(T)`.
        segments: `[B, T]` document ids of packed rows; a token sees only its own document.
        valid: `[B, T]` whether a token is not padding; None: no padding. No token sees padding.
        prefix: `[B]` length of the prefix that every token of a causal row sees (prefix LM).
        types: `[B, T]` token types (BERT's segments A and B), for embeddings that have them.
        global_tokens: `[B, T]` whether a token is global where a mixer has global tokens
            (Longformer); None: those of its own options.
        vectors: `[B, T, W]` vectors in place of the embedding table's rows wherever a token is -1
            (soft prompts).
        grid: rows and columns of a picture's patches, where rows are pictures.
        ends: `[B]` position of the end token of each row, for pools that read it (CLIP).
    """

    causal: bool = True
    positions: mx.array | None = None
    segments: mx.array | None = None
    valid: mx.array | None = None
    prefix: mx.array | None = None
    types: mx.array | None = None
    global_tokens: mx.array | None = None
    vectors: mx.array | None = None
    grid: tuple[int, int] | None = None
    ends: mx.array | None = None


@dataclass(frozen=True)
class Cursor:
    """Position of a decoding step in its sequence.

    Attributes:
        offset: absolute position of the first token of the step.
        pad: `[B]` left padding before each row's first token; None: none.
        total_length: length of the whole sequence, where this step reads only a part of it;
            None: it ends with this step.
        seen: `[B, S]` whether a position left a key for later ones, where a block runs on some
            tokens alone; None: all did.
    """

    offset: mx.array | int = 0
    pad: mx.array | None = None
    total_length: mx.array | None = None
    seen: mx.array | None = None

    @property
    def stepping(self) -> bool:
        """Whether this is a step of decoding, after others."""
        return isinstance(self.offset, mx.array)


SideOutputs = dict[str, dict[str, mx.array]]
"""The side outputs of a layer: a tree of arrays."""


class Observer(Protocol):
    """Sees arrays inside a forward pass as they arise, and may replace them.

    Names: `layer_input` and `layer_output` `[B, T, D]` of a stack's next layer; within a layer
    `mixer_input`, `mixer_output`, and `added` `[B, T, D]`, the term of a sublayer in the residual
    stream; the matrices `attention`, `cross_attention` and `implied` `[B, H, T, S]` by which a
    mixer weighs its values; `gates [B, T, E]` of experts; `routed [B, T]`, the tokens that a routed
    block runs on; `steps [B, T]`, the steps of a token before it halts.
    """

    def observe(self, name: str, array: mx.array) -> mx.array:
        """Return the array itself, or one that takes its place."""
        ...


@dataclass
class Recording:
    """An observer that records arrays.

    Attributes:
        names: those of the arrays to keep; None: all of them.
        arrays: name and array, in the order of the pass.
    """

    names: set[str] | None = None
    arrays: list[tuple[str, mx.array]] = field(default_factory=list)

    def observe(self, name: str, array: mx.array) -> mx.array:
        """Record the array if it is one of `names`."""
        if self.names is None or name in self.names:
            self.arrays.append((name, array))
        return array


@dataclass
class Draws:
    """Whether a forward pass draws random numbers; its layers and inner passes share one record."""

    any: bool = False


@dataclass
class Collected:
    """Side outputs of the layers of a forward pass.

    Attributes:
        aux: auxiliary losses by name, scalars that layers add to (mean per token).
        router_sums: sums over the routers that are balanced over all layers together, `[3, E]` by
            "experts_E": coefficient times load, mean probability, and 1.
        stats: statistics for the log by name, without gradients.
        observer: sees arrays inside the pass, in evaluation alone; None: there is none.
        layers: if a list, the stack appends the output `[B, T, D]` of each layer.
        requests: `(layer, n_layers) -> names` of the arrays that an objective captures from the
            attention of a layer: `queries [B, H, T, K]`, `keys` and `values [B, G, T, K]` as they
            meet, and `scores [B, H, T, T]` before the softmax, masked. None: nothing is captured.
        requested: those names, in the side outputs of one layer.
        captured: the arrays, by `name/layer`, with their gradients.
        carried: state of a recurrent model before the first token, replaced by that after the
            last; None starts from zeros and saves no state.
        draws: whether the pass has drawn random numbers.
    """

    aux: dict[str, mx.array] = field(default_factory=dict)
    router_sums: dict[str, mx.array] = field(default_factory=dict)
    stats: dict[str, mx.array] = field(default_factory=dict)
    observer: Observer | None = None
    layers: list[mx.array] | None = None
    requests: Callable[[int, int], Collection[str]] | None = None
    requested: Collection[str] = ()
    captured: dict[str, mx.array] = field(default_factory=dict)
    carried: Any = None
    draws: Draws = field(default_factory=Draws)

    def add_aux(self, name: str, value: mx.array) -> None:
        """Add an auxiliary loss (a scalar per token) to those of other layers under `name`."""
        self.aux[name] = self.aux[name] + value if name in self.aux else value

    def add_router_sums(self, sums: mx.array) -> None:
        """Add `router_sums` `[3, E]` of a layer to those of other layers."""
        # A name of digits would become a list when a flattened tree is built up again.
        name = f"experts_{sums.shape[-1]}"
        self.router_sums[name] = self.router_sums[name] + sums if name in self.router_sums else sums

    def add_layer(self, x: mx.array) -> None:
        """Append the output `[B, T, D]` of a stack's next layer, if `layers` is a list."""
        if self.layers is not None:
            self.layers.append(x)

    def add_stat(self, name: str, value: mx.array) -> None:
        """Record a statistic for the log; names are unique within a forward pass."""
        self.stats[name] = mx.stop_gradient(value)

    def observe(self, name: str, array: mx.array) -> mx.array:
        """Pass an array through the observer, if there is one."""
        return array if self.observer is None else self.observer.observe(name, array)

    def observe_weights(
        self, name: str, mix: Callable[[mx.array], mx.array], values: mx.array
    ) -> None:
        """Show the observer, if there is one, the matrix by which a mixer weighs its values.

        Args:
            name: that of the matrix.
            mix: the mixer's output `[B, H, T, V]` as a linear function of its values.
            values: `[B, G, S, V]`, for their shape. The output for unit vectors is the matrix.
        """
        if self.observer is not None:
            *heads, size, _ = values.shape
            units = mx.broadcast_to(mx.eye(size, dtype=values.dtype), (*heads, size, size))
            self.observer.observe(name, mix(units))

    def for_layer(self, layer: int = 0, n_layers: int = 0) -> "Collected":
        """Empty side outputs for one layer of a stack of `n_layers`, with the same observer.

        Nothing is captured from the layer if `n_layers` is 0.
        """
        requested = self.requests(layer, n_layers) if self.requests and n_layers else ()
        return replace(self, aux={}, router_sums={}, stats={}, captured={}, requested=requested)

    def side_outputs(self) -> SideOutputs:
        """Losses, statistics and captured arrays, as a tree of arrays."""
        return {
            "aux": self.aux,
            "router_sums": self.router_sums,
            "stats": self.stats,
            "captured": self.captured,
        }

    def merge(self, outputs: SideOutputs, layer: int) -> None:
        """Add the `side_outputs` of layer number `layer`."""
        for name, value in outputs["aux"].items():
            self.add_aux(name, value)
        for value in outputs["router_sums"].values():
            self.add_router_sums(value)
        for name, value in outputs["stats"].items():
            self.add_stat(f"{name}/{layer}", value)
        for name, value in outputs["captured"].items():
            self.captured[f"{name}/{layer}"] = value


@dataclass
class Context:
    """The context of one forward pass.

    Attributes:
        layout: facts about the rows.
        cursor: position of a decoding step; by default 0.
        memory: output of an encoder, `[B, S, D]`, or a dict of arrays (recurrent encoders).
        memory_valid: `[B, S]` whether a source token is not padding; None: no padding.
        position: positions of the stack, read by its embedding and mixers.
        key: PRNG key of a training pass; None (evaluation, decoding) turns dropout off.
        label_key: PRNG key with which a loss over a vocabulary draws its labels from the model's
            own predictions; None takes those of the batch.
        scalars: quantities that change over a run, by name; `progress` runs from 0 to 1.
        earlier: arrays with a gradient that a layer leaves for later layers of its stack, by name.
        collected: side outputs of layers.
    """

    layout: Layout = Layout()
    cursor: Cursor = Cursor()
    memory: Any = None
    memory_valid: mx.array | None = None
    position: Positions = NO_POSITIONS
    key: mx.array | None = None
    label_key: mx.array | None = None
    scalars: Mapping[str, mx.array] = field(default_factory=dict)
    earlier: dict[str, mx.array] = field(default_factory=dict)
    collected: Collected = field(default_factory=Collected)

    @property
    def training(self) -> bool:
        """Whether this is a training pass."""
        return self.key is not None

    def next_key(self) -> mx.array:
        """Split off a fresh PRNG key to draw with, and record in `collected.draws` that it was.

        The sequence of keys depends only on the first `key`.
        """
        key = self.split_key()
        if key is None:
            raise RuntimeError("This pass has no PRNG key: it is an evaluation pass.")
        self.collected.draws.any = True
        return key

    def split_key(self) -> mx.array | None:
        """Split off a key for the context of a layer or of an inner pass, which may draw with it or
        not; None in evaluation."""
        if self.key is None:
            return None
        keys = mx.random.split(self.key)
        self.key = keys[0]
        return keys[1]

    def inner(
        self,
        layout: Layout = Layout(),
        cursor: Cursor = Cursor(),
        position: Positions = NO_POSITIONS,
    ) -> "Context":
        """The context of an inner pass with facts of its own: a key split off, the same record of
        draws, and nothing else of this one."""
        key, collected = self.split_key(), Collected(draws=self.collected.draws)
        return Context(layout, cursor, position=position, key=key, collected=collected)

    def dropout(self, x: mx.array, rate: float) -> mx.array:
        """Inverted dropout (Srivastava et al. 2014, section 10) with this pass's key.

        `nn.Dropout` would draw another mask when a checkpointed block is recomputed.
        """
        if self.key is None or rate == 0.0:
            return x
        keep = mx.random.bernoulli(1.0 - rate, x.shape, key=mx.stop_gradient(self.next_key()))
        return mx.where(keep, x * (1.0 / (1.0 - rate)), mx.zeros((), x.dtype))
