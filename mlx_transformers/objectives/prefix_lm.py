"""Prefix language modelling: what is given is seen both ways, what follows is predicted."""

from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

import mlx.core as mx
from pydantic import Field

from ..core.context import Context
from ..core.loss import Loss
from ..recipe.config import Kind
from .vocabulary import Vocabulary, summed


class PrefixLm(Kind):
    """The sum of `-log p(token | prefix, tokens before it)` over what follows the prefix; Liu et
    al. 2018, section 4.2.3; Raffel et al. 2020, section 3.2.1 and figure 4."""

    kind: Literal["prefix_lm"] = "prefix_lm"
    needs: ClassVar[tuple[str, ...]] = ("tokens", "prefix", "weights")
    trains: ClassVar[tuple[str, ...]] = ("continues",)
    chunk: Annotated[int, Field(ge=1)] | Literal["auto"] = 512
    """Tokens whose logits are held at once: memory against the number of matmuls; `auto` is what
    the planner finds to fit."""

    def build(self) -> "PrefixLmObjective":
        return PrefixLmObjective(self)


class PrefixLmObjective:
    """`(models, batch, ctx) -> Loss`, where batch has `tokens [B, T + 1]`, `prefix [B]` (how many
    of them are given) and `weights [B, T]` of the predictions."""

    def __init__(self, config: PrefixLm) -> None:
        self.head = Vocabulary.of(config)

    def __call__(self, models: dict[str, Any], batch: dict[str, mx.array], ctx: Context) -> Loss:
        model, tokens, weights = models["model"], batch["tokens"], batch["weights"]
        ctx.layout = replace(ctx.layout, prefix=batch["prefix"])
        h = model.hidden(tokens[:, :-1], ctx)
        total, parts = self.head(model, h, tokens[:, 1:], weights, ctx)
        return summed(total, weights.sum(), parts, ctx)
