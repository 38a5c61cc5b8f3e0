"""Masked language modelling: tell the tokens that are hidden from what stands around them."""

from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

import mlx.core as mx
from pydantic import Field

from ..core.context import Context
from ..core.loss import Loss
from ..recipe.config import Kind
from .vocabulary import Vocabulary, summed


class Mlm(Kind):
    """The sum of `-log p(token | the rest)` over hidden tokens; Devlin et al. 2018, section 3.1."""

    kind: Literal["mlm"] = "mlm"
    needs: ClassVar[tuple[str, ...]] = ("tokens", "targets", "weights", "valid")
    trains: ClassVar[tuple[str, ...]] = ("reads",)
    parts: ClassVar[dict[str, tuple[str, ...]]] = {"head": ("mlm", "lm")}
    z_loss: float = Field(0.0, ge=0)
    """Coefficient of the squared log-partition, which keeps logits from drifting."""
    chunk: Annotated[int, Field(ge=1)] | Literal["auto"] = 512
    """Tokens whose logits are held at once: memory against the number of matmuls; `auto` is what
    the planner finds to fit."""

    def build(self) -> "MlmObjective":
        return MlmObjective(self)


class MlmObjective:
    """`(models, batch, ctx) -> Loss`, where batch has `tokens`, `targets`, `weights` (1 where
    hidden) and `valid`, all `[B, T]`; optional `types [B, T]`, and `places [B, P]` of the hidden
    tokens, so that the head reads these alone."""

    def __init__(self, config: Mlm) -> None:
        self.head = Vocabulary.of(config)

    def __call__(self, models: dict[str, Any], batch: dict[str, mx.array], ctx: Context) -> Loss:
        model, weights = models["model"], batch["weights"]
        around(ctx, batch)
        x = model.encode(batch["tokens"], ctx)
        total, parts = masked(self.head, model, x, batch, ctx)
        return summed(total, weights.sum(), parts, ctx)


def masked(
    head: Vocabulary, model: Any, x: mx.array, batch: dict[str, mx.array], ctx: Context
) -> tuple[mx.array, dict[str, mx.array]]:
    """The summed loss of hidden tokens and its parts, where x `[B, T, D]` is the stack's output."""
    h = model.head.transform(hidden_places(x, batch))
    targets, weights = (
        hidden_places(batch["targets"], batch),
        hidden_places(batch["weights"], batch),
    )
    return head(model, h, targets, weights, ctx)


def hidden_places(x: mx.array, batch: dict[str, mx.array]) -> mx.array:
    """x `[B, T, ...]` where tokens are hidden, `[B, P, ...]`; all of it if no places are told."""
    if "places" not in batch:
        return x
    places = batch["places"]
    return mx.take_along_axis(x, places if x.ndim == 2 else places[..., None], axis=1)


def around(ctx: Context, batch: dict[str, mx.array]) -> None:
    """Have every token see every other that exists, as an encoder does."""
    ctx.layout = replace(ctx.layout, causal=False, valid=batch["valid"], types=batch.get("types"))
