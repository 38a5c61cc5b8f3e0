"""One training step as compiled functions: gradients of a microbatch, and their application.

    for batch in microbatches:  acc = gradients(batch) + acc        compiled
    metrics = apply(acc)                                            compiled

This is gradient accumulation: summed losses are divided once, by the weight of the whole step. With
one microbatch the two are fused, so that each gradient is used as soon as it is computed.
Several processes all-reduce `acc` between the two.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import mlx.core as mx
from mlx.utils import tree_map

from ..core.context import Collected, Context
from ..core.tree import Tree, assign, select, snapshot
from ..layers.hooks import Hooks
from ..models.model import Model
from ..objectives.objective import Objective
from ..optim.clip import global_norm
from ..optim.finite import update_if
from ..optim.optimizer import learning_rate
from ..optim.periodic import CurvatureKind, refresh, refresh_every
from .config import Train
from .curvature import Curvature
from .forward import Batch, Forward, Rounding
from .noise_scale import NoiseScale
from .parallel_rows import ParallelRows
from .state import TrainState
from .traced import Traced

Projection = Callable[[Tree, Tree, mx.array], Tree]
"""`(before, after, progress) -> params`: what is left of an update, such as zeros that stay."""


class Step:
    """The compiled training step: `step(microbatches, index) -> metrics`, all lazy arrays.

    Metrics: every part of the loss per token (nats), `grad_norm` before clipping, `tokens` (the
    weight of the step), `finite` (0 if the update was skipped), `learning_rate`.

    Attributes:
        train_state: all that a step changes.
        loss: `loss(params, batch, ctx) -> Loss`, the forward pass.
        parallel: how the rows of a microbatch are shared by CPU streams.
    """

    def __init__(
        self,
        train_state: TrainState,
        objective: Objective[Model],
        config: Train,
        frozen: dict[str, Model] | None = None,
        curvature: CurvatureKind | None = None,
        rounding: Rounding | None = None,
        projection: Projection | None = None,
        parallel: ParallelRows | None = None,
    ) -> None:
        self.train_state, self.projection = train_state, projection
        self.config = config
        dtype = getattr(mx, config.dtype)
        self.loss = Forward(train_state.model, objective, dtype, frozen, rounding)
        self.parallel = parallel or ParallelRows()
        self.curvature = curvature and Curvature(curvature, train_state, objective, frozen)
        self.tokens = config.batch_size * config.seq_len
        shards = train_state.tensor_parallel
        self.noise = NoiseScale() if config.noise_scale else None
        self.clip = config.clip.build(shards.norm if shards else global_norm)
        self.rebuild()

    @property
    def model(self) -> Model:
        """The model that is trained."""
        return self.train_state.model

    @property
    def dtype(self) -> mx.Dtype:
        """The precision of forward and backward."""
        return self.loss.dtype

    @property
    def state(self) -> list[Any]:
        """The containers that a step reads and writes; MLX's random state is the last."""
        teachers = [m.state for role, m in self.loss.roles.items() if role != "model"]
        return [*self.train_state.captured, teachers, mx.random.state]

    def rebuild(self) -> None:
        """Compile anew, since a compiled function keeps the containers that it captured.

        Arrays of a tensor-parallel model are not evaluated before they are sharded, since all of
        them together may be too large.
        """
        self._version = self.train_state.version
        self.hooks = Hooks(self.model)
        if self.train_state.complete:
            mx.eval(self.state)
        self._first = Traced(self._gradients, self.state)
        self._more = Traced(self._accumulate, self.state)
        self._apply = Traced(self._update, self.state)
        self._fused = Traced(self._fuse, self.state)
        self._rewired = Traced(self._rewire, self.state)
        self.refresh_every = refresh_every(self.train_state.optimizer)
        if self.curvature is not None:
            self.curvature.rebuild(self.state)

    @property
    def traces(self) -> int:
        """Number of traces of all compiled functions: one each for every shape of batch."""
        compiled = (self._first, self._more, self._apply, self._fused, self._rewired)
        return sum(f.traces for f in compiled) + (self.curvature.traces if self.curvature else 0)

    @property
    def may_recover(self) -> bool:
        """Whether skipped steps may become finite: the loss scale of float16 can still fall."""
        scaler = self.train_state.scaler
        return scaler is not None and bool(scaler.scale > scaler.least)

    @property
    def declared_traces(self) -> int:
        """Number of traces for batches of one shape: fused, or first, (more) and apply."""
        # A step that rewires is not fused.
        estimates = (1 if self.curvature else 0) + (2 if self.train_state.sparsity else 0)
        if self.config.accumulate > 1:
            stages = self.config.batch_schedule
            single = any(self.config.microbatches(stage.until - 1) == 1 for stage in stages)
            return 3 + int(single) + estimates
        return (1 if self.train_state.ranks.world == 1 else 2) + estimates

    @contextmanager
    def undone(self) -> Iterator[None]:
        """Undo what the steps inside the block changed, at its end."""
        mx.eval(self.state)
        saved_state = snapshot(self.state[:-1])
        try:
            yield
        finally:
            for live, saved in zip(self.state[:-1], saved_state, strict=True):
                assign(live, saved)

    def __call__(self, microbatches: Sequence[Batch], index: int) -> dict[str, mx.array]:
        """Run step `index`; its dropout depends on the seed, the index and the rank alone.

        What the optimizer does every few updates depends on the index alone, too.
        """
        if self._version != self.train_state.version:
            self.rebuild()
        self.parallel.check(self.loss, microbatches[0])
        seed = (self.config.seed << 32) | index
        mx.random.seed(seed)
        self.train_state.clock["progress"] = mx.array(index / self.config.steps)
        ranks = self.train_state.ranks
        keys = mx.random.split(mx.random.key(seed), len(microbatches) * ranks.world)
        keys = keys[ranks.rank :: ranks.world]
        if self.curvature is not None and index % self.curvature.kind.every == 0:
            self.curvature.estimate(microbatches[0], keys[0], mx.random.key(seed))
        sparsity = self.train_state.sparsity
        rewires = sparsity is not None and sparsity.due(index)
        metrics = self._computed(microbatches, keys, mx.random.key(seed) if rewires else None)
        if self.refresh_every is not None and index % self.refresh_every == 0:
            refresh(self.train_state.optimizer)
        return metrics

    def _computed(
        self, microbatches: Sequence[Batch], keys: mx.array, rewire_key: mx.array | None
    ) -> dict[str, mx.array]:
        """Compute and apply the gradients of all microbatches; with a key, rewire before."""
        if rewire_key is not None:
            rewired: dict[str, mx.array] = self._rewired(
                self.gradient(microbatches, keys), rewire_key
            )
            return rewired
        if len(microbatches) == 1 and self.train_state.ranks.world == 1:
            fused: dict[str, mx.array] = self._fused(microbatches[0], keys[0])
            return fused
        return self.apply(self.gradient(microbatches, keys))

    def gradient(self, microbatches: Sequence[Batch], keys: mx.array) -> Tree:
        """Return gradients, weight and parts of the loss, summed over microbatches and ranks.

        Args:
            microbatches: the batches of this rank.
            keys: a PRNG key for each.
        """
        total = self._first(microbatches[0], keys[0])
        for batch, key in zip(microbatches[1:], keys[1:], strict=True):
            # Evaluated one by one, so that only one microbatch's activations are alive.
            mx.eval(total)
            total = self._more(total, batch, key)
        return self.train_state.ranks.all_reduce(total)

    def apply(self, total: Tree) -> dict[str, mx.array]:
        """Update the weights by the sums of `gradient`; returns the step's metrics."""
        metrics: dict[str, mx.array] = self._apply(total)
        return metrics

    def _gradients(self, batch: Batch, key: mx.array) -> Tree:
        """Return summed gradients, weight and loss parts of one microbatch."""
        return self.parallel(self._sums, batch, key)

    def _sums(self, batch: Batch, key: mx.array) -> Tree:
        """Return the same of some rows of a microbatch."""
        state = self.train_state
        carry, scaler, shards = state.carry, state.scaler, state.tensor_parallel
        carried = carry.before(batch["starts"]) if carry else None

        def loss(params: Tree) -> tuple[mx.array, Tree]:
            ctx = Context(
                collected=Collected(carried=carried),
                key=key,
                scalars={"progress": state.clock["progress"]},
            )
            out = self.loss(params, batch, ctx)
            sums = {"weight": out.weight, "parts": out.parts, "carried": ctx.collected.carried}
            if scaler is None:
                return out.total, sums
            # A sum over thousands of tokens would leave float16's range before it is scaled.
            return scaler.scale_loss(out.total / self.tokens), sums

        (_, sums), grads = mx.value_and_grad(loss)(self.model.trainable_parameters())
        if shards is not None:
            grads = shards.reduce_gradients(grads)
        after = sums.pop("carried")
        if carry is not None:
            carry.keep(after)
        if self.noise is not None:
            sums["noise"] = self.noise.microbatch(grads, sums["weight"])
        return {"grads": grads, **sums}

    def _accumulate(self, total: Tree, batch: Batch, key: mx.array) -> Tree:
        return tree_map(mx.add, total, self._gradients(batch, key))

    def _fuse(self, batch: Batch, key: mx.array) -> dict[str, mx.array]:
        return self._update(self._gradients(batch, key))

    def _rewire(self, sums: Tree, key: mx.array) -> dict[str, mx.array]:
        """Drop and grow connections by the dense gradient if it is finite, and update."""
        state, sparsity = self.train_state, self.train_state.sparsity
        assert sparsity is not None
        params, grads = self.model.trainable_parameters(), sums["grads"]
        masks, moments = snapshot(sparsity.state), snapshot(state.optimizer.state)
        finite = mx.isfinite(global_norm(grads))
        rewired = sparsity.rewire(params, grads, moments, state.clock["progress"], key)
        self.model.update(select(finite, rewired[0], params))
        assign(state.optimizer.state, select(finite, rewired[1], moments))
        sparsity.state.update(select(finite, sparsity.state, masks))
        return self._update(sums)

    def _update(self, sums: Tree) -> dict[str, mx.array]:
        """Divide once by the weight of the whole step, clip, and update if all is finite."""
        state = self.train_state
        scale = self._scale(sums["weight"])
        grads = tree_map(lambda g: g / scale, sums["grads"])
        dense = grads
        if state.sparsity is not None:
            grads = state.sparsity.masked(grads)
        grads, norm = self.clip(grads, self.model.trainable_parameters())
        finite = mx.isfinite(norm)
        before = self.model.trainable_parameters()
        update_if(finite, state.optimizer, self.model, grads)
        if self.projection is not None:
            updated = self.model.trainable_parameters()
            self.model.update(self.projection(before, updated, state.clock["progress"]))
        if state.sparsity is not None:
            updated = self.model.trainable_parameters()
            progress = state.clock["progress"]
            self.model.update(state.sparsity.settle(before, updated, dense, progress, finite))
        return self._finish(sums, scale, norm)

    def _scale(self, weight: mx.array) -> mx.array:
        """Return the divisor of summed gradients: the weight of the step, and the loss scale."""
        scaler = self.train_state.scaler
        return weight if scaler is None else weight * (scaler.scale / self.tokens)

    def _finish(self, sums: Tree, scale: mx.array, norm: mx.array) -> dict[str, mx.array]:
        """Follow the updated weights, and return the step's metrics."""
        state, weight, finite = self.train_state, sums["weight"], mx.isfinite(norm)
        if state.scaler is not None:
            state.scaler.update(finite)
        if state.ema is not None:
            before = snapshot(state.ema.state)
            params = self.model.trainable_parameters()
            state.ema.update(params)
            if self.projection is not None:  # an average would keep what weights were before 0
                zeroed = tree_map(lambda a, p: mx.where(p == 0, 0, a), state.ema.average, params)
                state.ema.state["average"] = zeroed
            state.ema.state.update(select(finite, state.ema.state, before))
        stats = {name: part / weight for name, part in sums["parts"].items()}
        if self.noise is not None:
            stats |= self.noise(sums["noise"], norm, weight, scale)
        if state.sparsity is not None:
            stats |= state.sparsity.stats()
        return self.hooks(stats, finite) | {
            "grad_norm": norm,
            "tokens": weight,
            "finite": finite,
            "learning_rate": learning_rate(state.optimizer),
        }
