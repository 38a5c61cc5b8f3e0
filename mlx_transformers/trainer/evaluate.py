"""Evaluation: the loss of held-out data, on functions of its own."""

import math
from collections.abc import Iterable
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from ..core.context import Context
from ..core.tree import cast
from .parallel import ALONE, Ranks
from .traced import Traced


class Evaluator:
    """`evaluator(batches) -> metrics`; the model as it is at the call, without dropout.

    Where an `average` of the weights is kept, that is what is measured. Several ranks measure each
    their own batches, and all get the metrics of all.

    Metrics: `val_loss` (nats per token), `val_ppl` (its exponential), `val_bpb` (bits per byte
    of the text, which compares across tokenizers) and `val_tokens`.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Any,
        roles: dict[str, nn.Module],
        bytes_per_token: float,
        dtype: mx.Dtype,
        average: Any = None,
        ranks: Ranks = ALONE,
    ) -> None:
        self.model = model
        self.objective = objective
        self.roles = roles
        self.bytes_per_token = bytes_per_token
        self.dtype = dtype
        self.average = average
        self.ranks = ranks
        state = [[m.state for m in roles.values()], average.state if average else {}]
        self._sums = Traced(self._forward, state)

    def _forward(self, batch: dict[str, mx.array]) -> tuple[mx.array, mx.array]:
        params = self.model.parameters()
        if self.average is not None:
            self.model.update(self.average.average)
        if self.dtype != mx.float32:
            self.model.update(cast(self.model.parameters(), self.dtype))
        loss = self.objective(self.roles, batch, Context())
        self.model.update(params)
        return loss.parts["loss"], loss.weight

    def __call__(self, batches: Iterable[dict[str, Any]]) -> dict[str, float]:
        nats, tokens = 0.0, 0.0
        for batch in batches:
            sums = self._sums({name: mx.array(batch[name]) for name in sorted(batch)})
            mx.eval(sums)
            nats, tokens = nats + sums[0].item(), tokens + sums[1].item()
        nats, tokens = map(sum, zip(*self.ranks.gather([nats, tokens]), strict=True))
        loss = nats / tokens if tokens else float("nan")
        return {
            "val_loss": loss,
            "val_ppl": math.exp(min(loss, 700.0)),
            "val_bpb": loss / math.log(2) / self.bytes_per_token,
            "val_tokens": tokens,
        }
