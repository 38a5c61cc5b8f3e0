"""Estimates of the loss's curvature for optimizers that divide by it, such as Sophia.

    labels:   h' = G² / B                                   G = gradient, summed over B tokens whose
                                                            labels the model draws itself
    hessian:  h' = u · (g(w + e u) - g(w - e u)) / (2 e)     u standard normal, g the mean gradient

Both are computed in float32 on the first microbatch of a step: Liu et al. 2024, algorithms 1 and 2.
The second is the central difference of `u · (H u)`, since fused kernels have no second derivative.
"""

from typing import Any

import mlx.core as mx
from mlx.utils import tree_map

from ..core.context import Collected, Context
from ..core.tree import Tree, assign, select, snapshot
from ..models.model import Model
from ..objectives.objective import Objective
from ..optim.clip import global_norm
from ..optim.periodic import CurvatureKind, hutchinson, update_hessian
from .forward import Batch, Forward
from .state import TrainState
from .traced import Traced

REACH = 5e-3
"""Cube root of float32's precision: the best relative distance of a central difference."""


class Curvature:
    """Estimates the curvature on a batch, and gives it to the optimizer."""

    def __init__(
        self,
        kind: CurvatureKind,
        train_state: TrainState,
        objective: Objective[Model],
        frozen: dict[str, Model] | None,
    ) -> None:
        self.kind = kind
        self.train_state = train_state
        self.loss = Forward(train_state.model, objective, mx.float32, frozen)

    def rebuild(self, state: list[Any]) -> None:
        """Compile anew, for these containers."""
        method = self._labels if self.kind.by == "labels" else self._hessian
        self._sums = Traced(method, state)

    @property
    def traces(self) -> int:
        """Number of traces, one for each shape of batch."""
        return self._sums.traces

    def estimate(self, batch: Batch, key: mx.array, shared_key: mx.array) -> None:
        """Move the optimizer's curvature towards an estimate; one that is not finite is left out.

        Args:
            batch: a microbatch.
            key: of its dropout and of the labels.
            shared_key: equal on all ranks, of the random direction.
        """
        sums = self.train_state.ranks.all_reduce(self._sums(batch, key, shared_key))
        weight = sums["weight"]
        if self.kind.by == "labels":
            estimates = tree_map(lambda g: mx.square(g) / weight, sums["sums"])
        else:
            estimates = tree_map(lambda h: h / weight, sums["sums"])
        optimizer = self.train_state.optimizer
        before = snapshot(optimizer.state)
        update_hessian(optimizer, estimates)
        finite = mx.isfinite(global_norm(estimates))
        assign(optimizer.state, select(finite, optimizer.state, before))

    def _labels(self, batch: Batch, key: mx.array, shared_key: mx.array) -> Tree:
        drawn, key = mx.random.split(key)
        grads, weight = self._gradients(
            self.train_state.model.trainable_parameters(), batch, key, drawn
        )
        return {"sums": grads, "weight": weight}

    def _hessian(self, batch: Batch, key: mx.array, shared_key: mx.array) -> Tree:
        params = self.train_state.model.trainable_parameters()
        u = hutchinson(params, shared_key)
        e = REACH * (1 + global_norm(params)) / global_norm(u)
        above, weight = self._gradients(tree_map(lambda p, d: p + e * d, params, u), batch, key)
        below, _ = self._gradients(tree_map(lambda p, d: p - e * d, params, u), batch, key)
        sums = tree_map(lambda d, a, b: d * (a - b) / (2 * e), u, above, below)
        return {"sums": sums, "weight": weight}

    def _gradients(
        self, params: Tree, batch: Batch, key: mx.array, label_key: mx.array | None = None
    ) -> tuple[Tree, mx.array]:
        """Return the summed gradients at `params`, and their weight."""
        state = self.train_state
        carried = state.carry.before(batch["starts"]) if state.carry else None

        def loss(params: Tree) -> tuple[mx.array, mx.array]:
            ctx = Context(
                collected=Collected(carried=carried),
                key=key,
                label_key=label_key,
                scalars={"progress": state.clock["progress"]},
            )
            out = self.loss(params, batch, ctx)
            return out.total, out.weight

        (_, weight), grads = mx.value_and_grad(loss)(params)
        return grads, weight
