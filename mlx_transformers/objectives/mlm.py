"""Masked language modelling: tell the tokens that are hidden from what stands around them."""

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
    z_loss: float = Field(0.0, ge=0)
    """Coefficient of the squared log-partition, which keeps logits from drifting."""
    chunk: Annotated[int, Field(ge=1)] | Literal["auto"] = 512
    """Tokens whose logits are held at once: memory against the number of matmuls; `auto` is what
    the planner finds to fit."""

    def build(self) -> "MlmObjective":
        return MlmObjective(self)


class MlmObjective:
    """`(models, batch, ctx) -> Loss`, where batch has `tokens`, `targets`, `weights` (1 where
    hidden) and `valid`, all `[B, T]`; optional `types [B, T]`."""

    def __init__(self, config: Mlm) -> None:
        self.head = Vocabulary.of(config)

    def __call__(self, models: dict[str, Any], batch: dict[str, mx.array], ctx: Context) -> Loss:
        model, weights = models["model"], batch["weights"]
        around(ctx, batch)
        h = model.hidden(batch["tokens"], ctx)
        total, parts = self.head(model, h, batch["targets"], weights, ctx)
        return summed(total, weights.sum(), parts, ctx)


def around(ctx: Context, batch: dict[str, mx.array]) -> None:
    """Have every token see every other that exists, as an encoder does."""
    ctx.causal, ctx.valid, ctx.types = False, batch["valid"], batch.get("types")
