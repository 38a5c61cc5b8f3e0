"""Multi-token prediction: the next token, and further ones by the model's `ahead` blocks."""

from collections.abc import Mapping
from typing import ClassVar, Literal, Protocol

import mlx.core as mx
from pydantic import Field

from ..core.context import Context
from ..core.loss import Loss
from .chunked_loss import ChunkedLoss, with_aux
from .clm import NextTokenKind, next_tokens
from .objective import Arrays, VocabularyModel


class MultiToken(NextTokenKind):
    """`-log p(next token) + weight / n · Σ_k -log p(token after k others)`, summed over positions.

    DeepSeek-AI 2024 (DeepSeek-V3), section 2.2, equations 24 and 25; weights of 0.3, later 0.1.
    Label smoothing and z loss apply to every prediction.
    """

    kind: Literal["multi_token"] = "multi_token"
    needs_slots: ClassVar[Mapping[str, tuple[str, ...]]] = {"ahead": ("mtp",)}
    weight: float = Field(0.3, gt=0)
    """Weight of the further tokens together, λ in the paper."""

    def build(self) -> "MultiTokenObjective":
        return MultiTokenObjective(self)


class MultiTokenModel(VocabularyModel, Protocol):
    """A model with multi-token prediction."""

    def hidden_multi_token(self, tokens: mx.array, ctx: Context) -> tuple[mx.array, list[mx.array]]:
        """The hidden vectors that predict the next token, `[B, T, width]`, and those that predict
        the token after k others, `[B, T - k, width]`, for k = 1 to n."""
        ...


class MultiTokenObjective:
    """`(models, batch, ctx) -> Loss`, where the model has an `ahead` and batch is as for Clm."""

    def __init__(self, config: MultiToken) -> None:
        self.weight = config.weight
        self.head = ChunkedLoss.of(config, config.label_smoothing, config.z_loss)
        self.accuracy = config.accuracy

    def __call__(self, models: Mapping[str, MultiTokenModel], batch: Arrays, ctx: Context) -> Loss:
        model = models["model"]
        inputs, targets, weights = next_tokens(batch, ctx)
        segments = ctx.layout.segments
        h, further = model.hidden_multi_token(inputs, ctx)
        total, parts = self.head(model, h, targets, weights, ctx)
        if self.accuracy:
            parts["accuracy"] = self.head.correct(model, h, targets, weights)
        for k, states in enumerate(further, 1):
            pair_weights = weights[:, k:]
            if segments is not None:
                pair_weights = pair_weights * (segments[:, k:] == segments[:, :-k])
            loss, head_parts = self.head(model, states, targets[:, k:], pair_weights, ctx)
            total = total + self.weight / len(further) * loss
            parts[f"loss_{k}_ahead"] = head_parts["loss"]
        return with_aux(total, weights.sum(), parts, ctx)
