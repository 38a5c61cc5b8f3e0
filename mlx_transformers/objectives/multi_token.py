"""Predicting several tokens at once: the next, and those that a model's `ahead` looks out for."""

from typing import Any, ClassVar, Literal

import mlx.core as mx
from pydantic import Field

from ..core.context import Context
from ..core.loss import Loss
from .clm import Clm, next_tokens
from .vocabulary import Vocabulary, summed


class MultiToken(Clm):
    """`-log p(next token) + weight / n · Σ_k -log p(token after k others)`, summed over places.

    DeepSeek-AI 2024 (DeepSeek-V3), section 2.2, equations 24 and 25; weights of 0.3, later 0.1.
    Label smoothing and z loss bear on every prediction.
    """

    kind: Literal["multi_token"] = "multi_token"  # type: ignore[assignment]
    parts: ClassVar[dict[str, tuple[str, ...]]] = {"ahead": ("mtp",)}
    weight: float = Field(0.3, gt=0)
    """What the further tokens count together, λ in the paper."""

    def build(self) -> "MultiTokenObjective":  # type: ignore[override]
        return MultiTokenObjective(self)


class MultiTokenObjective:
    """`(models, batch, ctx) -> Loss`, where the model has an `ahead` and batch is as for Clm."""

    def __init__(self, config: MultiToken) -> None:
        self.head, self.weight = Vocabulary.of(config), config.weight

    def __call__(self, models: dict[str, Any], batch: dict[str, mx.array], ctx: Context) -> Loss:
        model = models["model"]
        inputs, targets, weights = next_tokens(batch, ctx)
        segments = ctx.layout.segments
        h, further = model.hidden_ahead(inputs, ctx)
        total, parts = self.head(model, h, targets, weights, ctx)
        for k, each in enumerate(further, 1):
            counted = weights[:, k:]
            if segments is not None:
                counted = counted * (segments[:, k:] == segments[:, :-k])
            loss, own = self.head(model, each, targets[:, k:], counted, ctx)
            total = total + self.weight / len(further) * loss
            parts[f"loss_{k}_ahead"] = own["loss"]
        return summed(total, weights.sum(), parts, ctx)
