"""One training step as compiled functions: gradients of a microbatch, and their application.

    for batch in microbatches:  acc = gradients(batch) + acc        compiled
    metrics = apply(acc)                                            compiled

With one microbatch the two are fused, so that gradients are consumed as they appear. Several
processes exchange `acc` between the two.
"""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from mlx.utils import tree_map

from ..core.context import Collected, Context
from ..core.tree import assign, cast, select, snapshot
from ..distributed.processes import ALONE, Ranks
from ..distributed.tensor_parallel import Division
from ..distributed.zero import Sharded
from ..optim.ema import Ema
from ..optim.finite import update_if
from ..optim.optimizer import learning_rate
from ..optim.scaler import LossScaler
from ..runs.restore import restore_model, restore_state
from .balance import balance
from .carry import Carry
from .config import Train
from .traced import Traced

Batch = dict[str, mx.array]
Tree = Any


class Step:
    """The compiled step of one model: `step(microbatches, index) -> metrics`, all lazy arrays.

    Metrics: every part of the loss per token (nats), `grad_norm` before clipping, `tokens` (the
    weight of the step), `finite` (0 when the step changed nothing), `learning_rate`.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Any,
        optimizer: optim.Optimizer,
        config: Train,
        frozen: dict[str, nn.Module] | None = None,
        ranks: Ranks = ALONE,
        carry: bool = False,
        division: Division | None = None,
    ) -> None:
        self.model = model
        self.objective = objective
        self.optimizer = optimizer
        self.config = config
        self.ranks = ranks
        self.division = division
        self.roles = {"model": model, **(frozen or {})}
        self.dtype = getattr(mx, config.dtype)
        self.tokens = config.batch_size * config.seq_len
        self.scaler = LossScaler() if config.dtype == "float16" else None
        self.ema = Ema(model.trainable_parameters(), config.ema) if config.ema else None
        self.clip = config.clip.build(division.norm) if division else config.clip.build()
        self.carry = Carry(model, config.batch_size, ranks) if carry else None
        self.clock = {"progress": mx.array(0.0)}
        self.rebuild()

    def rebuild(self) -> None:
        """Make the compiled functions anew, as replacing a captured container demands.

        A model that is still to be divided isn't evaluated: whole it may be too large.
        """
        if self.division is not None and not self.division.done:
            return
        mx.eval(self.state)
        self._first = Traced(self._gradients, self.state)
        self._more = Traced(self._accumulate, self.state)
        self._apply = Traced(self._update, self.state)
        self._fused = Traced(
            lambda batch, key: self._update(self._gradients(batch, key)), self.state
        )

    @property
    def state(self) -> list[Any]:
        """Everything that a step reads and writes."""
        models = [m.state for m in self.roles.values()]
        extras = [x.state for x in (self.scaler, self.ema, self.carry) if x is not None]
        return [models, self.optimizer.state, [*extras, self.clock], mx.random.state]

    @property
    def trees(self) -> dict[str, Tree]:
        """The arrays that a checkpoint holds, by the name of their file."""
        own = {"model": self.model.parameters(), "optimizer": self.optimizer.state}
        extras = {"ema": self.ema, "scaler": self.scaler, "carry": self.carry}
        return own | {name: x.state for name, x in extras.items() if x is not None}

    def whole(self) -> dict[str, Tree]:
        """`trees`, on rank 0 with what other ranks keep: all ranks call it."""
        if self.division is not None:
            return self.division.whole(self.trees)
        if not isinstance(self.optimizer, Sharded):
            return self.trees
        return self.trees | {"optimizer": self.optimizer.whole()}

    def restore(self, trees: dict[str, Tree]) -> None:
        """Put back what `whole` gave; other ranks have it after `align`.

        Raises:
            CheckpointError: the trees belong to another recipe.
        """
        restore_model(self.model, trees["model"])
        for name, live in self.trees.items():
            if name == "optimizer" and isinstance(self.optimizer, Sharded):
                self.optimizer.offer(trees.get(name, {}))
            elif name != "model":
                restore_state(live, trees.get(name, {}), name)
        self.rebuild()

    def start_from(self, weights: Tree) -> None:
        """Begin with weights from elsewhere; the optimizer has nothing to remember.

        Raises:
            CheckpointError: they belong to another model.
        """
        restore_model(self.model, weights)
        if self.ema is not None:
            self.ema.restart(self.model.trainable_parameters())
        self.rebuild()

    def align(self) -> None:
        """Rank 0's arrays on every rank, or a part of them: it alone has read a checkpoint."""
        if self.division is not None:
            self._divide(self.division)
            return
        live = self.trees
        if isinstance(self.optimizer, Sharded):
            del live["optimizer"]
            self.optimizer.spread()
        trees = self.ranks.copy(live)
        mx.eval(trees)
        self.model.update(trees.pop("model"))
        assign({name: live[name] for name in trees}, trees)

    def _divide(self, division: Division) -> None:
        whole = snapshot({name: tree for name, tree in self.trees.items() if name != "model"})
        division.divide(self.model)
        self.optimizer = division.optimizer(self.model)
        if self.ema is not None:
            self.ema.restart(self.model.trainable_parameters())
        live = {name: tree for name, tree in self.trees.items() if name != "model"}
        assign(live, division.cut(whole, live))
        self.rebuild()

    @property
    def traces(self) -> int:
        """How often any of the functions was traced: one each for one shape of batch."""
        return sum(f.traces for f in (self._first, self._more, self._apply, self._fused))

    @property
    def may_recover(self) -> bool:
        """Whether steps that were not finite may become so: float16's scale can still fall."""
        return self.scaler is not None and bool(self.scaler.scale > self.scaler.least)

    @property
    def declared_traces(self) -> int:
        """How many traces batches of one shape need: fused, or first, (more) and apply."""
        if self.config.accumulate > 1:
            return 3
        return 1 if self.ranks.world == 1 else 2

    def __call__(self, microbatches: Sequence[Batch], index: int) -> dict[str, mx.array]:
        """Step number `index`; its dropout depends on the seed, the index and the rank alone."""
        seed = (self.config.seed << 32) | index
        mx.random.seed(seed)
        self.clock["progress"] = mx.array(index / self.config.steps)
        ranks = self.ranks
        keys = mx.random.split(mx.random.key(seed), len(microbatches) * ranks.world)
        keys = keys[ranks.rank :: ranks.world]
        if len(microbatches) == 1 and ranks.world == 1:
            return self._fused(microbatches[0], keys[0])
        total = self._first(microbatches[0], keys[0])
        for batch, key in zip(microbatches[1:], keys[1:], strict=True):
            # Evaluated one by one, so that only one microbatch's activations are alive.
            mx.eval(total)
            total = self._more(total, batch, key)
        return self._apply(ranks.sum(total))

    def _gradients(self, batch: Batch, key: mx.array) -> Tree:
        """Summed gradients, weight and loss parts of one microbatch."""
        params = self.model.trainable_parameters()
        carried = self.carry.before(batch["starts"]) if self.carry else None

        def loss(params: Tree) -> tuple[mx.array, Tree]:
            self.model.update(params if self.dtype == mx.float32 else cast(params, self.dtype))
            ctx = Context(
                collected=Collected(carried=carried),
                key=key,
                scalars={"progress": self.clock["progress"]},
            )
            out = self.objective(self.roles, batch, ctx)
            sums = {"weight": out.weight, "parts": out.parts, "carried": ctx.collected.carried}
            if self.scaler is None:
                return out.total, sums
            # A sum over thousands of tokens would leave float16's range before it is scaled.
            return self.scaler.scale_loss(out.total / self.tokens), sums

        (_, sums), grads = mx.value_and_grad(loss)(params)
        self.model.update(params)
        if self.division is not None:
            grads = self.division.complete(grads)
        after = sums.pop("carried")
        if self.carry is not None:
            self.carry.keep(after)
        return {"grads": grads, **sums}

    def _accumulate(self, total: Tree, batch: Batch, key: mx.array) -> Tree:
        return tree_map(mx.add, total, self._gradients(batch, key))

    def _update(self, sums: Tree) -> dict[str, mx.array]:
        """Divide once by the weight of the whole step, clip, and update if all is finite."""
        weight = sums["weight"]
        scale = weight if self.scaler is None else weight * (self.scaler.scale / self.tokens)
        grads = tree_map(lambda g: g / scale, sums["grads"])
        grads, norm = self.clip(grads, self.model.trainable_parameters())
        finite = mx.isfinite(norm)
        update_if(finite, self.optimizer, self.model, grads)
        if self.scaler is not None:
            self.scaler.update(finite)
        if self.ema is not None:
            before = snapshot(self.ema.state)
            self.ema.update(self.model.trainable_parameters())
            self.ema.state.update(select(finite, self.ema.state, before))
        metrics = {name: part / weight for name, part in sums["parts"].items()}
        metrics = balance(self.model, metrics, finite)
        return metrics | {
            "grad_norm": norm,
            "tokens": weight,
            "finite": finite,
            "learning_rate": learning_rate(self.optimizer),
        }
