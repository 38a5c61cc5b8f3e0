"""What is to be trained, as sizes: its stacks, and how much each of them reads at once."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Protocol

from ..core.footprint import FLOAT32_BYTES, ActivationShape
from ..data.kinds import Columns
from ..models.stack import towers


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

    config: Any
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

    def tables(self) -> list[tuple[Any, ActivationShape]]:
        """The model's table and those of its stacks, in the order that they run, with its pass."""
        encoder = getattr(self.config, "encoder", None) if self.columns.source else None
        return [(t, self.source if t is encoder else self.at) for t in towers(self.config)]

    def readings(self) -> Iterator[Reading]:
        """Every layer, in the order that they run."""
        layers, stacks = iter(self.config.layers()), self.tables()[1:] or self.tables()
        for table, at in stacks:
            count = table.n_layers if len(stacks) > 1 else None
            for layer in islice(layers, count):
                yield self._reading(layer, table, at)

    def further(self) -> list[Reading]:
        """The blocks of what looks ahead in training."""
        blocks: list[Any] = getattr(self.config, "ahead_blocks", list)()
        return [self._reading(block, self.config, self.at) for block in blocks]

    def edges(self) -> list[Reading]:
        """What stands before the first layer of each stack and after the last."""
        return [
            Reading(part, getattr(table, "dim", self.config.dim), at)
            for table, at in self.tables()
            for part in (getattr(table, "embed", None), getattr(table, "norm", None))
            if part is not None
        ]

    def _reading(self, layer: Any, table: Any, at: ActivationShape) -> Reading:
        """A layer of a stack, as one of the processes that share it has it."""
        position = getattr(layer, "position", None) or getattr(table, "position", None)
        dim = getattr(table, "dim", self.config.dim)
        own = layer if self.sharers == 1 else layer.part(dim, self.sharers)
        return Reading(own, dim, replace(at, biased=getattr(position, "adds_to_scores", False)))
