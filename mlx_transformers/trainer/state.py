"""Everything that training changes, as one value."""

from collections.abc import Collection
from typing import Any, Protocol

import mlx.core as mx
import mlx.optimizers as optim

from ..core.tree import Tree, assign, snapshot
from ..distributed.processes import SINGLE, Ranks
from ..distributed.tensor_parallel import TensorParallel
from ..distributed.zero import Sharded
from ..layers.adapters.weights import load_plain, own_weights
from ..models.model import Model
from ..optim.ema import Average, Ema
from ..optim.scaler import LossScaler
from ..optim.schedule_free import IterateAverage
from ..runs.restore import restore_model, restore_state
from .carry import RecurrentCarry
from .config import Train


class Sparsity(Protocol):
    """The active connections of dynamic sparse training, or of movement pruning."""

    state: dict[str, Any]
    """The masks."""

    def adopt(self, params: Tree) -> None:
        """Follow weights from elsewhere."""
        ...

    def masked(self, tree: Tree) -> Tree:
        """Return parameters or gradients, 0 where a connection is not active."""
        ...

    def settle(
        self, before: Tree, after: Tree, grads: Tree, progress: mx.array, finite: mx.array
    ) -> Tree:
        """Return the weights after an update by `masked` gradients, of which `grads` are the dense
        ones; masks may change."""
        ...

    def stats(self) -> dict[str, mx.array]:
        """Measurements of a step, for the log."""
        ...

    def due(self, index: int) -> bool:
        """Return whether connections change before the update of step `index`."""
        ...

    def rewire(
        self, params: Tree, grads: Tree, moments: Tree, progress: mx.array, key: mx.array
    ) -> tuple[Tree, Tree]:
        """Change the masks; returns weights and the optimizer's state."""
        ...


class TrainState:
    """Model, optimizer, and whatever else changes from step to step.

    Attributes:
        model: the model; its parameters are the float32 master weights.
        optimizer: its optimizer, sharded over ranks or not.
        ema: exponential moving average of the trained weights, or None.
        average: the average by which the run is judged: the EMA, the optimizer's own, or None.
        scaler: loss scaler of float16 training, or None.
        carry: recurrent state of stateful batches (truncated BPTT), or None.
        sparsity: connections of dynamic sparse training, or None.
        clock: `progress`, the fraction of the run's steps that are done.
        ranks: the processes that train together.
        tensor_parallel: tensor parallelism of the model, or None.
        version: counts how often arrays or containers were replaced from outside; compiled
            functions that captured them are compiled again.
    """

    def __init__(
        self,
        model: Model,
        optimizer: optim.Optimizer,
        config: Train,
        ranks: Ranks = SINGLE,
        carry: bool = False,
        tensor_parallel: TensorParallel | None = None,
        averages: bool = False,
        sparsity: Sparsity | None = None,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.ranks = ranks
        self.tensor_parallel = tensor_parallel
        self.scaler = LossScaler() if config.dtype == "float16" else None
        self.ema = Ema(model.trainable_parameters(), config.ema) if config.ema else None
        self.average: Average | None = IterateAverage(optimizer, model) if averages else self.ema
        self.carry = RecurrentCarry(model, config.batch_size, ranks) if carry else None
        self.sparsity = sparsity
        self._mask()
        self.clock = {"progress": mx.array(0.0)}
        self.version = 0

    @property
    def complete(self) -> bool:
        """Whether this process has its arrays: tensor-parallel ones have them after `broadcast`."""
        return self.tensor_parallel is None or self.tensor_parallel.sharded

    @property
    def captured(self) -> list[Any]:
        """The containers that a compiled step reads and writes."""
        parts = (self.scaler, self.ema, self.carry, self.sparsity)
        extras = [x.state for x in parts if x is not None]
        return [self.model.state, self.optimizer.state, [*extras, self.clock]]

    def trees(self) -> dict[str, Tree]:
        """The arrays of a checkpoint, by the stem of their file."""
        trees = {"model": own_weights(self.model), "optimizer": self.optimizer.state}
        if self.average is not None:
            trees["ema"] = {"average": self.average.average}
        extras = {"scaler": self.scaler, "carry": self.carry, "sparsity": self.sparsity}
        return trees | {name: x.state for name, x in extras.items() if x is not None}

    def evaluated(self) -> Tree:
        """The weights by which the run is judged: their EMA if there is one."""
        return self.average.average if self.average else self.model.trainable_parameters()

    def gather(self) -> dict[str, Tree]:
        """Collect the `trees` of all ranks on rank 0; every rank must call it."""
        if self.tensor_parallel is not None:
            return self.tensor_parallel.gather(self.trees())
        if not isinstance(self.optimizer, Sharded):
            return self.trees()
        return self.trees() | {"optimizer": self.optimizer.gather()}

    def restore(self, trees: dict[str, Tree], needless: Collection[str] = ()) -> None:
        """Put back gathered trees on rank 0; other ranks receive them by `broadcast`.

        Args:
            trees: as `trees` returns them.
            needless: names of trees that stay as they are.

        Raises:
            CheckpointError: the trees belong to another recipe.
        """
        restore_model(self.model, trees["model"])
        for name, live in self.trees().items():
            if name == "optimizer" and isinstance(self.optimizer, Sharded):
                self.optimizer.stage(trees.get(name, {}))
            elif name not in ("model", *needless):
                restore_state(live, trees.get(name, {}), name)
        self.version += 1

    def start_from(self, weights: Tree) -> None:
        """Begin with weights from elsewhere and a fresh optimizer.

        Raises:
            CheckpointError: the weights belong to another model.
        """
        restore_model(self.model, weights)
        self._restart()

    def start_from_plain(self, weights: dict[str, mx.array]) -> None:
        """Begin with the weights of a model without adapters, by name, and a fresh optimizer."""
        load_plain(self.model, weights)
        self._restart()

    def _mask(self) -> None:
        """Set the weights of connections that are not active to 0."""
        if self.sparsity is not None:
            self.model.update(self.sparsity.masked(self.model.trainable_parameters()))

    def _restart(self) -> None:
        """Follow new weights: masks drawn by the seed would zero those that were trained."""
        if self.sparsity is not None:
            self.sparsity.adopt(self.model.trainable_parameters())
        self._mask()
        if self.ema is not None:
            self.ema.restart(self.model.trainable_parameters())
        self.version += 1

    def broadcast(self) -> None:
        """Copy rank 0's arrays, or this process's part of them, to every rank."""
        self.version += 1
        if self.tensor_parallel is not None:
            self._shard(self.tensor_parallel)
            return
        live = self.trees() | {"model": self.model.parameters()}
        if isinstance(self.optimizer, Sharded):
            del live["optimizer"]
            self.optimizer.scatter()
        trees = self.ranks.broadcast(live)
        mx.eval(trees)
        self.model.update(trees.pop("model"))
        assign({name: live[name] for name in trees}, trees)

    def _shard(self, shards: TensorParallel) -> None:
        full = snapshot({name: tree for name, tree in self.trees().items() if name != "model"})
        shards.shard_model(self.model)
        self.optimizer = shards.optimizer(self.model)
        if self.ema is not None:
            self.ema.restart(self.model.trainable_parameters())
        live = {name: tree for name, tree in self.trees().items() if name != "model"}
        assign(live, shards.shard(full, live))
