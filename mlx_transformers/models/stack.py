"""Towers and their stacks of blocks, shared by decoders, encoders and encoder-decoders."""

from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Self

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field, model_validator

from ..core.context import Context, SideOutputs
from ..core.errors import unknown
from ..core.footprint import ActivationShape
from ..core.recompute import recompute
from ..core.weights_first import weights_first
from ..layers.block import Block, BlockModule
from ..layers.kinds import (
    DepthKind,
    EmbedKind,
    NormKind,
    PositionKind,
    Reads,
    RunLayer,
    joint_score_bias,
)
from ..layers.mixers.shared_block import EMBEDDED, SharedBlockMixer, share_blocks
from ..layers.parameter import Place
from ..ops.device import on_cpu
from ..recipe.config import Config
from ..recipe.slot import Slot
from .model import SavesBytes, TowerSpec
from .reversible import (
    Join,
    JoinedNorm,
    Streams,
    check_reversible,
    run_reversible,
    step_reversible,
)


class Tower(Config):
    """A tower over one sequence: embedding, L blocks, norm."""

    reads: ClassVar[Reads] = "tokens"
    """Inputs that the embedding must read."""
    n_layers: int = Field(ge=1)
    """Blocks L."""
    embed: Annotated[EmbedKind, Slot("embed")]
    """How tokens become vectors."""
    position: Annotated[PositionKind, Slot("position")]
    """Position embedding."""
    block: Block
    """The block of each layer, unless `pattern` names others."""
    blocks: dict[str, Block] = Field(default_factory=dict)
    """Named variants, each a diff against `block`, for `pattern`."""
    pattern: list[str] | None = None
    """Names from `blocks`, repeated until there are n_layers; none means `block` everywhere."""
    n_distinct: int | None = Field(None, ge=1)
    """Blocks with weights of their own; runs of n_layers / n_distinct layers share them (ALBERT:
    1). None means all blocks."""
    unit: int = Field(1, ge=1)
    """Neighbouring blocks that are repeated together where weights are shared (ALBERT:
    inner_group_num)."""
    depth: Annotated[DepthKind, Slot("depth")] | None = None
    """How the layers follow each other; none means one after the other, all of them."""
    teacher_dim: int | None = Field(None, ge=1)
    """Width of a teacher's vectors, to which a learned projection takes those of layers and
    embeddings for `objective.layers` and `objective.embeddings`, in training alone (TinyBERT). None
    means no projection: both models have one width."""
    reversible: Join | None = None
    """Reversible residuals over two streams, which save no activations and end as their `mean` or
    side by side (`concatenate`); none means ordinary ones (Reformer)."""
    norm: Annotated[NormKind, Slot("norm")]
    """The normalisation after the last block."""

    @model_validator(mode="after")
    def _embed_reads_the_input(self) -> "Tower":
        if self.embed.reads != self.reads:
            raise ValueError(
                f"embed.kind = '{self.embed.kind}' reads {self.embed.reads}, and this tower reads "
                f"{self.reads}. Choose another kind of embed, or of model."
            )
        return self

    @model_validator(mode="after")
    def _blocks_can_be_undone(self) -> "Tower":
        if self.reversible is not None:
            check_reversible(self.layers())
        if self.reversible is not None and self.depth is not None:
            raise ValueError(
                "depth runs blocks over one residual stream, and reversible has two: unset one of "
                "them."
            )
        return self

    def width(self, dim: int) -> int:
        """Width of the tower's output, for a residual stream of width `dim`."""
        return 2 * dim if self.reversible == "concatenate" else dim

    @model_validator(mode="after")
    def _pattern_names_blocks(self) -> "Tower":
        for name in self.pattern or []:
            if name not in self.blocks:
                raise ValueError(unknown("name in pattern", name, self.blocks))
        if self.blocks and not self.pattern:
            raise ValueError("blocks is given without pattern, so it has no effect.")
        used = set((self.pattern or [])[: self.n_layers])
        if idle := sorted(set(self.blocks) - used):
            raise ValueError(
                f"blocks.{idle[0]} is the block of none of the {self.n_layers} layers, so it "
                "has no effect. Name it in pattern, or unset it."
            )
        if self.n_layers % self.unit or (self.n_distinct or self.unit) % self.unit:
            raise ValueError(
                f"unit = {self.unit} does not divide n_layers = {self.n_layers} and n_distinct = "
                f"{self.n_distinct}: blocks are repeated in whole units."
            )
        if self.unit > 1 and self.n_distinct is None:
            raise ValueError("unit has no effect without n_distinct: nothing is repeated.")
        if (self.n_distinct or 1) > self.n_layers:
            raise ValueError(
                f"n_distinct = {self.n_distinct} is more than n_layers = {self.n_layers}."
            )
        if self.n_distinct is not None and self.pattern is not None:
            raise ValueError("n_distinct shares one block; with pattern there are several.")
        return self

    @model_validator(mode="after")
    def _routed_blocks_add_no_bias(self) -> "Tower":
        for block in self.layers():
            position = block.position or self.position
            if block.route is not None and position.adds_to_scores:
                raise ValueError(
                    f"position.kind = '{position.kind}' adds a bias by distance to the scores, "
                    "which isn't built for blocks with route: they leave tokens out. Use 'rope', "
                    "'learned', 'sinusoidal' or 'none'."
                )
        return self

    @model_validator(mode="after")
    def _biases_of_positions_are_added(self) -> "Tower":
        biased = [
            (position.kind, block.mixer)
            for block in self.layers()
            if (position := block.position or self.position).adds_to_scores
        ]
        for name, mixer in biased:
            if mixer.score_bias == "refuses":
                raise ValueError(
                    f"position.kind = '{name}' adds a bias to attention scores, and the "
                    f"pattern of mixer.kind = '{mixer.kind}' has no place for one. Use 'rope', "
                    "'learned', 'sinusoidal' or 'none'."
                )
        if biased and joint_score_bias(*(mixer for _, mixer in biased)) == "none":
            name, mixer = biased[0]
            raise ValueError(
                f"position.kind = '{name}' has no effect: it adds a bias to attention scores, "
                f"and mixer.kind = '{mixer.kind}' has none. Use 'learned', 'sinusoidal' or 'none'."
            )
        return self

    @model_validator(mode="after")
    def _arrays_are_left_before_they_are_read(self) -> "Tower":
        left: set[str] = set()
        for i, block in enumerate(self.layers()):
            reads = block.mixer.reads_array
            if reads is not None and self.reversible is not None:
                raise ValueError(
                    f"layer {i + 1} reads the {reads}, which a reversible stack doesn't pass on: "
                    "unset reversible, or what makes the layer read them."
                )
            if reads is not None and reads not in left:
                raise ValueError(
                    f"layer {i + 1} reads the {reads}, but no layer below it leaves them. Name a "
                    "block that does first in pattern."
                )
            left |= {block.mixer.leaves_array} if block.mixer.leaves_array else set()
        return self

    def without_helpers(self, weights: dict[str, mx.array]) -> tuple[Self, dict[str, mx.array]]:
        """The tower without the projection to a teacher's width."""
        tower_weights = {
            name: array for name, array in weights.items() if not name.startswith("taught.")
        }
        return self.model_copy(update={"teacher_dim": None}), tower_weights

    def spec(self, path: str, dim: int, reads_source: bool = False) -> TowerSpec:
        """This tower as the planner and the profiler see it, its module at `path`."""
        edges: tuple[SavesBytes, ...] = (self.embed, self.norm)
        names = tuple(self.pattern or ("block",))
        if self.depth is not None:
            edges = (*edges, DepthCost(self.depth, self.n_layers))
        if self.reversible is not None:
            joined = JoinedNorm(self.norm) if self.reversible == "concatenate" else self.norm
            edges = (self.embed, Streams(), joined)
        return TowerSpec(
            path,
            dim,
            self.layers(),
            edges,
            self.position,
            names,
            reads_source,
            reversible=self.reversible is not None,
        )

    def layers(self) -> list[Block]:
        """The block of each layer."""
        names = self.pattern
        if names is None:
            return [self.block] * self.n_layers
        return [self.blocks[names[i % len(names)]] for i in range(self.n_layers)]


@dataclass(frozen=True)
class DepthCost:
    """The memory of a depth kind beside that of the layers, for the plan."""

    kind: DepthKind
    n_layers: int

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Bytes per token that the forward saves for its backward."""
        return self.kind.saved_bytes(dim, at, self.n_layers)


def served_by(layer: int, n_layers: int, n_distinct: int, unit: int) -> int:
    """Index of the distinct block that serves a layer; each unit of blocks serves equally many."""
    units, distinct = n_layers // unit, n_distinct // unit
    return (layer // unit) * distinct // units * unit + layer % unit


class Stack(nn.Module):
    """Blocks one after the other: `(x [B, T, D], ctx) -> [B, T, D]`.

    Attributes:
        blocks: blocks with weights of their own.
        recomputed: indices of checkpointed layers, recomputed in the backward pass.
    """

    places: ClassVar[dict[str, Place]] = {"blocks": "layers"}

    def __init__(self, config: Tower, dim: int, max_seq_len: int) -> None:
        super().__init__()
        layers = config.layers()
        distinct = config.n_distinct or len(layers)
        self.blocks: list[BlockModule] = [b.build(dim, max_seq_len) for b in layers[:distinct]]
        share_blocks(block.mixer for block in self.blocks)
        # A list of numbers would count as parameters.
        self.n_layers, self.n_distinct, self.unit = len(layers), distinct, config.unit
        self.recomputed: frozenset[int] = frozenset()
        if config.depth is not None:
            self.depth = config.depth.build(dim, self.n_layers)
        self.reversible = config.reversible

    def layers(self) -> list[BlockModule]:
        """The block of each layer; some are the same object where layers share weights."""
        sizes = (self.n_layers, self.n_distinct, self.unit)
        return [self.blocks[served_by(i, *sizes)] for i in range(self.n_layers)]

    def __call__(self, x: mx.array, ctx: Context) -> mx.array:
        layers = self.layers()
        if self.reversible is not None:
            return run_reversible(layers, x, ctx, self.reversible)
        earlier = self._embedded(x)

        def run(i: int, x: mx.array) -> mx.array:
            key = ctx.split_key()
            x = ctx.collected.observe("layer_input", x)
            x, updated, side_outputs = self._run(i, layers[i], x, earlier, key, ctx)
            earlier.update(updated)
            ctx.collected.merge(side_outputs, i)
            return ctx.collected.observe("layer_output", x)

        return self._walk(x, ctx, run)

    def _embedded(self, x: mx.array) -> dict[str, mx.array]:
        """The stack's input `x` by name, for layers that read it; empty where none does."""
        reads = any(isinstance(block.mixer, SharedBlockMixer) for block in self.blocks)
        return {EMBEDDED: x} if reads else {}

    def _walk(self, x: mx.array, ctx: Context, run: RunLayer) -> mx.array:
        """Run the layers in their order, or as the slot `depth` has them follow each other."""
        if "depth" in self:
            y: mx.array = self.depth(x, ctx, self.n_layers, run)
            return y
        for i in range(self.n_layers):
            x = run(i, x)
            ctx.collected.add_layer(x)
        return x

    def _run(
        self,
        i: int,
        block: BlockModule,
        x: mx.array,
        earlier: dict[str, mx.array],
        key: mx.array | None,
        ctx: Context,
    ) -> tuple[mx.array, dict[str, mx.array], SideOutputs]:
        # Arrays that get a gradient and PRNG keys must be arguments of a checkpointed function.
        arrays = {"key": key, "memory": ctx.memory}
        optional = {name: array for name, array in arrays.items() if array is not None}

        def run(
            x: mx.array, earlier: dict[str, mx.array], optional: dict[str, mx.array]
        ) -> tuple[mx.array, dict[str, mx.array], SideOutputs]:
            if "key" in optional:
                optional = optional | {"key": mx.stop_gradient(optional["key"])}
            collected = ctx.collected.for_layer(i, self.n_layers)
            layer_ctx = replace(
                ctx,
                key=optional.get("key"),
                memory=optional.get("memory"),
                collected=collected,
                earlier=dict(earlier),
            )
            return block(x, layer_ctx), layer_ctx.earlier, collected.side_outputs()

        position = ctx.position
        modules: list[nn.Module] = [block]
        if isinstance(position, nn.Module):
            modules.append(position)
        if isinstance(block.mixer, SharedBlockMixer) and block.mixer.lender is not None:
            modules.append(block.mixer.lender.layers)
        f = recompute(modules, run) if i in self.recomputed else run
        f = weights_first(modules, f) if ctx.training and on_cpu() else f
        out: tuple[mx.array, dict[str, mx.array], SideOutputs] = f(x, earlier, optional)
        return out

    def init_state(
        self, batch: int, length: int, dtype: mx.Dtype, memory: mx.array | None = None
    ) -> list[Any]:
        """The decode state of every layer; cross attention reads `memory [B, S, D]`."""
        return [block.init_state(batch, length, dtype, memory) for block in self.layers()]

    def step(self, x: mx.array, states: list[Any], ctx: Context) -> tuple[mx.array, list[Any]]:
        """Continue every row by the T tokens of `x`."""
        after, layers = list(states), self.layers()
        step_ctx = replace(ctx, earlier=self._embedded(x))
        if self.reversible is not None:
            return step_reversible(layers, x, states, ctx, self.reversible)

        def run(i: int, x: mx.array) -> mx.array:
            x, after[i] = layers[i].step(x, states[i], step_ctx)
            return x

        return self._walk(x, ctx, run), after


class TowerModule(nn.Module):
    """`(tokens [B, T], ctx) -> [B, T, D]`: embed, blocks, norm."""

    places: ClassVar[dict[str, Place]] = {"embed": "below", "position": "below"}

    def __init__(
        self, config: Tower, vocab_size: int, dim: int, max_seq_len: int, table: bool = True
    ) -> None:
        super().__init__()
        self.config, self.position_dim = config, config.embed.position_width(dim)
        self.embed = config.embed.build(vocab_size, dim, table)
        self.position = config.position.build(self.position_dim, max_seq_len)
        self.stack = Stack(config, dim, max_seq_len)
        self.norm = config.norm.build(config.width(dim))
        if config.teacher_dim is not None:
            self.taught = nn.Linear(dim, config.teacher_dim, bias=False)

    def toward_teacher(self, x: mx.array) -> mx.array:
        """Vectors `[..., D]` of a layer in the width of a teacher's; Jiao et al. 2020, equations 8
        and 9, with one matrix for both, as in the authors' code."""
        y: mx.array = self.taught(x) if "taught" in self else x
        return y

    def flops(self, length: int) -> float:
        """Operations of the position's products per token, in the blocks that share it."""
        sharing = sum(block.position is None for block in self.config.layers())
        return sharing * self.config.position.flops(self.position_dim, length)

    def embed_tokens(
        self, tokens: mx.array, ctx: Context, table: nn.Embedding | None = None
    ) -> mx.array:
        """The input of the first block, `[B, T, D]`; `table` where the embedding has none."""
        ctx.position = self.position
        return self.embed(tokens, ctx, table)

    def forward(self, x: mx.array, ctx: Context) -> mx.array:
        """The normalised output of the last block, `[B, T, D]`."""
        ctx.position = self.position
        return self.norm(self.stack(x, ctx))

    def decode(
        self, tokens: mx.array, blocks: list[Any], ctx: Context
    ) -> tuple[mx.array, list[Any]]:
        """`forward` for the next tokens `[B, T]` of a decode state, and the new state."""
        x, blocks = self.stack.step(self.embed_tokens(tokens, ctx), blocks, ctx)
        return self.norm(x), blocks
