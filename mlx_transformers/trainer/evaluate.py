"""Evaluation: the loss of held-out data, on functions of its own."""

import math
from collections.abc import Iterable
from functools import reduce
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from ..core.context import Context
from ..core.loss import Unit
from ..core.tree import cast
from ..distributed.processes import ALONE, Ranks
from .traced import Traced


class Evaluator:
    """`evaluator(batches) -> metrics`; the model as it is at the call, without dropout.

    Where an `average` of the weights is kept, that is what is measured. Several ranks measure each
    their own batches, and all get the metrics of all.

    Metrics: `val_loss` (nats per unit), `val_tokens` or how many there were of another unit, and
    whatever else the objective measures, per unit: `val_accuracy` and the like. Of tokens also
    `val_ppl` (the loss's exponential) and, where one has a number of bytes, `val_bpb` (bits per
    byte of the text, which compares across tokenizers).
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Any,
        roles: dict[str, nn.Module],
        bytes_per_token: float | None,
        dtype: mx.Dtype,
        average: Any = None,
        ranks: Ranks = ALONE,
        unit: Unit = "token",
    ) -> None:
        self.model = model
        self.objective = objective
        self.roles = roles
        self.bytes_per_token = bytes_per_token
        self.dtype = dtype
        self.average = average
        self.ranks, self.unit = ranks, unit
        state = [[m.state for m in roles.values()], average.state if average else {}]
        self._sums = Traced(self._forward, state)

    def _forward(self, batch: dict[str, mx.array]) -> dict[str, mx.array]:
        params = self.model.parameters()
        if self.average is not None:
            self.model.update(self.average.average)
        if self.dtype != mx.float32:
            self.model.update(cast(self.model.parameters(), self.dtype))
        loss = self.objective(self.roles, batch, Context())
        self.model.update(params)
        return loss.parts | {"weight": loss.weight}

    def __call__(self, batches: Iterable[dict[str, Any]]) -> dict[str, float]:
        totals: dict[str, float] = {}
        for batch in batches:
            sums = self._sums({name: mx.array(batch[name]) for name in sorted(batch)})
            mx.eval(sums)
            totals = _added(totals, {name: value.item() for name, value in sums.items()})
        # Of processes that share layers, all have measured the same.
        totals = reduce(_added, self.ranks.gather(totals)[: self.ranks.world])
        return self._metrics(totals)

    def _metrics(self, totals: dict[str, float]) -> dict[str, float]:
        weight = totals.pop("weight", 0.0)
        means = {name: t / weight if weight else float("nan") for name, t in totals.items()}
        loss = means.pop("loss", float("nan"))
        out = {"val_loss": loss, f"val_{self.unit}s": weight}
        if self.unit == "token":
            out["val_ppl"] = math.exp(min(loss, 700.0))
        if self.bytes_per_token is not None:
            out["val_bpb"] = loss / math.log(2) / self.bytes_per_token
        # Statistics of single layers have a number behind a slash.
        return out | {f"val_{name}": mean for name, mean in means.items() if "/" not in name}


def _added(a: dict[str, float], b: dict[str, float]) -> dict[str, float]:
    return {name: a.get(name, 0.0) + value for name, value in b.items()} if b else a
