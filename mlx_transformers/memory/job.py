"""What is to be trained, as sizes: its stacks, and how much each of them reads at once."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

from ..core.footprint import FLOAT32_BYTES, ActivationShape
from ..data.kinds import Columns
from ..models.model import ModelKind, TowerSpec


class Saves(Protocol):
    """The config of a part of a model that knows the memory its forward saves."""

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Bytes per token that the forward saves for its backward."""
        ...


@dataclass(frozen=True)
class Reading:
    """A layer, or another part of a model, and the sizes of what it reads."""

    layer: Saves
    dim: int
    at: ActivationShape

    @property
    def entry(self) -> float:
        """Bytes of one array `[N, D]`, such as the layer's input."""
        return float(self.dim * self.at.itemsize * self.at.tokens)


@dataclass(frozen=True)
class Job:
    """What is to be trained, as sizes. `model` may be lazy: only its shapes are read.

    Attributes:
        config: the model's typed table.
        model, state: the module, and the optimizer's state for it; arrays need not be evaluated.
        vocab_size: rows of the head, V.
        columns: how long a row is for each part of the model.
        recomputed: blocks whose activations are computed again.
        chunk: rows of logits at once.
        ema: whether an average of the weights is kept.
        taught_by: bytes of the models that are read and not trained; None where there should be
            some that can't be found.
        sharers: processes that share the blocks, of which `model` and `state` are one's part.
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
    taught_by: float | None = 0.0
    sharers: int = 1

    @property
    def itemsize(self) -> int:
        """Bytes of a number that the forward computes with."""
        return FLOAT32_BYTES if self.dtype == "float32" else FLOAT32_BYTES // 2

    @property
    def at(self) -> ActivationShape:
        """The pass over one microbatch, by the decoder where there are two stacks."""
        columns = self.columns
        return ActivationShape(
            self.batch_size,
            columns.target,
            self.itemsize,
            self.cpu,
            memory=columns.source,
            masked=columns.masked and not columns.source,
        )

    @property
    def source(self) -> ActivationShape:
        """The pass of the encoder of two stacks."""
        return replace(self.at, length=self.columns.source, memory=0, masked=True)

    @property
    def dim(self) -> int:
        """Width D of the widest tower."""
        return max(tower.dim for tower in self.config.towers())

    def passes(self) -> list[tuple[TowerSpec, ActivationShape]]:
        """The towers of the model, in the order that they run, each with its pass."""
        reads_source = bool(self.columns.source)
        return [
            (tower, self.source if tower.reads_source and reads_source else self.at)
            for tower in self.config.towers()
        ]

    def readings(self) -> Iterator[Reading]:
        """Every layer, in the order that they run."""
        for tower, at in self.passes():
            for layer in tower.layers:
                yield self._reading(layer, tower, at)

    def further(self) -> list[Reading]:
        """The blocks that run in training alone: multi-token prediction."""
        towers = self.config.training_towers()
        return [self._reading(layer, tower, self.at) for tower in towers for layer in tower.layers]

    def edges(self) -> list[Reading]:
        """The parts before the first layer of each tower and after the last."""
        return [Reading(part, tower.dim, at) for tower, at in self.passes() for part in tower.edges]

    def _reading(self, layer: Any, tower: TowerSpec, at: ActivationShape) -> Reading:
        """A layer of a tower, as one of the processes that share it has it."""
        position = getattr(layer, "position", None) or tower.position
        own = layer if self.sharers == 1 else layer.part(tower.dim, self.sharers)
        biased = getattr(position, "adds_to_scores", False)
        return Reading(own, tower.dim, replace(at, biased=biased))
