"""One training step as compiled functions: gradients of a microbatch, and their application.

    for batch in microbatches:  acc = gradients(batch) + acc        compiled
    metrics = apply(acc)                                            compiled

With one microbatch the two are fused, so that gradients are consumed as they appear.
"""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from mlx.utils import tree_map

from ..core.context import Context
from ..core.errors import RunError
from ..core.tree import cast
from .config import Train
from .traced import Traced

Batch = dict[str, mx.array]
Tree = Any


class Step:
    """The compiled step of one model: `step(microbatches, index) -> metrics`, all lazy arrays.

    Metrics: every part of the loss per token, `loss_total`, `grad_norm`, `tokens` (the weight
    of the step), `finite` (0 when the step changed nothing), `loss_scale` in float16.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Any,
        optimizer: optim.Optimizer,
        config: Train,
        extras: Any,
        frozen: dict[str, nn.Module] | None = None,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.config = config
        self.objective = objective
        self.extras = extras
        self.roles = {"model": model, **(frozen or {})}
        self.dtype = getattr(mx, config.dtype)
        state = self.state
        self._first = Traced(self._gradients, state)
        self._next = Traced(self._accumulate, state)
        self._apply = Traced(self._update, state)
        self._fused = Traced(lambda batch, key: self._update(self._gradients(batch, key)), state)
        self.functions = [self._first, self._next, self._apply, self._fused]

    @property
    def state(self) -> list[Any]:
        """Everything a step reads and writes."""
        models = [m.state for m in self.roles.values()]
        return [models, self.optimizer.state, self.extras.state, mx.random.state]
