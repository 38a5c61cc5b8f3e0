"""A training job as sizes: the parts of its model, and the shapes that each of them reads."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from ..core.footprint import FLOAT32_BYTES, ActivationShape
from ..data.kinds import Columns
from ..layers.block import Block
from ..layers.kinds import PositionKind
from ..models.model import ModelKind, SavesBytes, TowerSpec


@dataclass(frozen=True)
class Part:
    """A layer, an embedding or a norm, and the sizes of its activations."""

    config: SavesBytes
    dim: int
    at: ActivationShape
    reversible: bool = False
    position: PositionKind | None = None

    @property
    def input_bytes(self) -> float:
        """Bytes of one array `[N, D]`, such as its input."""
        return float(self.dim * self.at.itemsize * self.at.tokens)

    @property
    def saved_bytes(self) -> float:
        """Bytes that its forward saves for its backward."""
        places = 0.0 if self.position is None else self.position.saved_bytes(self.dim, self.at)
        return (self.config.saved_bytes(self.dim, self.at) + places) * self.at.tokens


@dataclass(frozen=True)
class Job:
    """A training job as sizes. `model` may be lazy: only its shapes are read.

    Attributes:
        config: the model's typed table.
        model, state: the module, and the optimizer's state for it; arrays need not be evaluated.
        vocab_size: rows of the head, V.
        columns: how long a row is for each part of the model.
        recomputed: indices of checkpointed layers.
        chunk: rows of logits at once.
        ema: whether the run has an EMA of the weights.
        teacher_bytes: bytes of frozen models beside the trained one; None: they can't be found.
        soft_targets: whether the loss compares the logits of all tokens with a teacher's.
        relation_bytes: bytes of the relations of attention that the loss compares with a teacher's,
            one array `[B, H, T, T]` for each.
        snapshots: whether weights, their average and optimizer state are held until a checkpoint is
            written.
        tensor_parallel: processes that split the blocks; `model` and `state` are one's part.
        page_bytes: most bytes of a page (its state, gradients and new weights), where the optimizer
            state is in a file; None: in memory.
        streams: CPU streams that share the rows of a microbatch, if they divide evenly.
    """

    config: ModelKind
    model: Any
    state: Any
    vocab_size: int
    batch_size: int
    columns: Columns
    accumulate: int = 1
    dtype: str = "float32"
    recomputed: frozenset[int] = frozenset()
    chunk: int = 512
    ema: bool = False
    cpu: bool = True
    teacher_bytes: float | None = 0.0
    soft_targets: bool = False
    relation_bytes: float = 0.0
    snapshots: bool = False
    tensor_parallel: int = 1
    page_bytes: float | None = None
    streams: int = 1

    @property
    def parts(self) -> int:
        """Parts of a microbatch that are computed at once."""
        return 1 if self.batch_size % self.streams else self.streams

    @property
    def itemsize(self) -> int:
        """Bytes of a number in the compute dtype."""
        return FLOAT32_BYTES if self.dtype == "float32" else FLOAT32_BYTES // 2

    @property
    def at(self) -> ActivationShape:
        """Sizes of one microbatch, of the decoder if there are two towers."""
        columns = self.columns
        strides = [tower.stride for tower in self.config.towers() if tower.reads_source]
        return ActivationShape(
            self.batch_size,
            columns.target,
            self.itemsize,
            self.cpu,
            memory=-(-columns.source // max(strides, default=1)),
            masked=columns.masked and not columns.source,
        )

    @property
    def source(self) -> ActivationShape:
        """Sizes of one microbatch of the encoder, if there are two towers."""
        return replace(self.at, length=self.columns.source, memory=0, masked=True)

    @property
    def dim(self) -> int:
        """Width D of the widest tower."""
        return max(tower.dim for tower in self.config.towers())

    def passes(self) -> list[tuple[TowerSpec, ActivationShape]]:
        """The towers of the model in running order, each with the sizes of its activations."""
        return [(tower, self._shape(tower)) for tower in self.config.towers()]

    def _shape(self, tower: TowerSpec) -> ActivationShape:
        at = self.source if tower.reads_source and self.columns.source else self.at
        return replace(at, length=-(-at.length // tower.stride))

    def layers(self) -> Iterator[Part]:
        """Every layer, in running order."""
        for tower, at in self.passes():
            for layer in tower.layers:
                yield self._part(layer, tower, at)

    def training_layers(self) -> list[Part]:
        """The blocks that run in training alone: multi-token prediction."""
        towers = self.config.training_towers()
        return [self._part(layer, tower, self.at) for tower in towers for layer in tower.layers]

    def edges(self) -> list[Part]:
        """The parts before the first layer of each tower and after the last."""
        return [Part(part, tower.dim, at) for tower, at in self.passes() for part in tower.edges]

    def _part(self, layer: SavesBytes, tower: TowerSpec, at: ActivationShape) -> Part:
        """A layer of a tower, as one tensor-parallel process has it."""
        position = tower.position
        if isinstance(layer, Block):
            position = layer.position or position
            n = self.tensor_parallel
            layer = layer.part(tower.dim, n) if n > 1 else layer
        biased = position is not None and position.adds_to_scores
        return Part(layer, tower.dim, replace(at, biased=biased), tower.reversible, position)
