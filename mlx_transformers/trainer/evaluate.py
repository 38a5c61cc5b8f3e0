"""Evaluation: the loss on held-out data, in compiled functions of its own."""

import math
from collections.abc import Iterable, Mapping
from functools import reduce
from typing import Any

import mlx.core as mx

from ..core.context import Context
from ..core.loss import Unit
from ..distributed.processes import SINGLE, Ranks
from ..optim.ema import Average
from .forward import Forward
from .parallel_rows import ParallelRows
from .traced import Traced


class Evaluator:
    """`evaluator(batches) -> metrics` of the model as it is at the call, without dropout.

    With an EMA of the weights, that is evaluated. Each rank evaluates its own batches, and all get
    the metrics of all.

    Metrics: `val_loss` (nats per unit), `val_tokens` or the number of another unit, and whatever
    else the objective measures, per unit: `val_accuracy` and the like. For tokens also `val_ppl`
    (perplexity) and, where the bytes per token are known, `val_bpb` (bits per byte of the text,
    which compares across tokenizers).
    """

    def __init__(
        self,
        loss: Forward,
        bytes_per_token: float | None,
        average: Average | None = None,
        ranks: Ranks = SINGLE,
        unit: Unit = "token",
        parallel: ParallelRows | None = None,
    ) -> None:
        self.loss = loss
        self.bytes_per_token = bytes_per_token
        self.average = average
        self.ranks, self.unit = ranks, unit
        self.parallel = parallel or ParallelRows()
        self._rebuild()

    def _rebuild(self) -> None:
        """Compile anew: a compiled function keeps the number of parts that it was traced with."""
        average, roles = self.average, self.loss.roles
        state = [[m.state for m in roles.values()], average.state if average else {}]
        self._streams = self.parallel.streams
        self._sums = Traced(self._forward, state)

    def _forward(self, batch: dict[str, mx.array]) -> dict[str, mx.array]:
        # In parts only where a training step has found that they add up to the batch.
        sums: dict[str, mx.array] = self.parallel(self._of_rows, batch, mx.random.key(0))
        return sums

    def _of_rows(self, batch: dict[str, mx.array], key: mx.array) -> dict[str, mx.array]:
        """The sums of some rows of a batch; nothing is drawn, so the key stays unused."""
        del key
        trained = self.loss.model.trainable_parameters()
        out = self.loss(self.average.average if self.average else trained, batch, Context())
        # Statistics of single layers have the number of the layer behind a slash.
        parts = {name: part for name, part in out.parts.items() if "/" not in name}
        return parts | {"weight": out.weight}

    def __call__(self, batches: Iterable[dict[str, Any]]) -> dict[str, float]:
        totals: dict[str, float] = {}
        if self._streams != self.parallel.streams:
            self._rebuild()
        for batch in batches:
            sums = self._sums({name: mx.array(batch[name]) for name in sorted(batch)})
            mx.eval(sums)
            totals = _added(totals, {name: value.item() for name, value in sums.items()})
        # Tensor-parallel processes have all evaluated the same batches.
        totals = reduce(_added, self.ranks.gather(totals)[: self.ranks.world])
        return self._metrics(totals)

    def losses(self, batches: Mapping[str, Iterable[dict[str, Any]]]) -> dict[str, float]:
        """Return the loss on each of several texts: `val_loss/NAME`, nats per unit."""
        return {f"val_loss/{name}": self(text)["val_loss"] for name, text in batches.items()}

    def _metrics(self, totals: dict[str, float]) -> dict[str, float]:
        weight = totals.pop("weight", 0.0)
        means = {name: t / weight if weight else float("nan") for name, t in totals.items()}
        loss = means.pop("loss", float("nan"))
        out = {"val_loss": loss, f"val_{self.unit}s": weight}
        if self.unit == "token":
            out["val_ppl"] = math.exp(min(loss, 700.0))
        if self.bytes_per_token is not None:
            out["val_bpb"] = loss / math.log(2) / self.bytes_per_token
        return out | {f"val_{name}": mean for name, mean in means.items()}


def _added(a: dict[str, float], b: dict[str, float]) -> dict[str, float]:
    return {name: a.get(name, 0.0) + value for name, value in b.items()} if b else a
