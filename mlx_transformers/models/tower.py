"""The config of a tower: what fills its slots, its layers in order, and how it is planned."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Self

import mlx.core as mx
from pydantic import Field, model_validator

from ..core.errors import unknown
from ..core.footprint import ActivationShape
from ..layers.block import Block
from ..layers.kinds import DepthKind, EmbedKind, NormKind, PositionKind, Reads, joint_score_bias
from ..recipe.config import Config
from ..recipe.slot import Slot
from .model import SavesBytes, TowerSpec
from .reversible import Join, JoinedNorm, Streams, check_reversible


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
        return self

    @model_validator(mode="after")
    def _layers_share_whole_units(self) -> "Tower":
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
