"""Replaced token detection: a small generator fills masks, and each token is judged real or not."""

from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field

from ..core.context import Context
from ..core.loss import Loss
from ..recipe.config import Kind
from .mlm import around, hidden_places, masked
from .vocabulary import Vocabulary, summed


class Rtd(Kind):
    """`mean over masks of the generator's -log p + discriminator_weight · mean over tokens of the
    discriminator's binary cross-entropy`; Clark et al. 2020 (ELECTRA), section 2 and equation 1.

    The generator's guesses are drawn from its distribution; no gradient goes through the draw.
    """

    kind: Literal["rtd"] = "rtd"
    needs: ClassVar[tuple[str, ...]] = ("tokens", "targets", "weights", "valid")
    trains: ClassVar[tuple[str, ...]] = ("judges",)
    discriminator_weight: float = Field(50.0, gt=0)
    """λ; 50 in section 3.1's experiments."""
    chunk: Annotated[int, Field(ge=1)] | Literal["auto"] = 512
    """Tokens whose logits are held at once for the generator's loss: memory against the number of
    matmuls; `auto` is what the planner finds to fit."""

    def build(self) -> "RtdObjective":
        return RtdObjective(self)


class RtdObjective:
    """`(models, batch, ctx) -> Loss`, where batch is as for masked language modelling.

    The model has a `generator`, a masked language model, and says with `judge(tokens, ctx)` how
    much each token looks replaced, `[B, T, 1]`. The weight is that of the masks; the mean over
    tokens counts as often.
    """

    def __init__(self, config: Rtd) -> None:
        self.head, self.discriminator_weight = Vocabulary.of(config), config.discriminator_weight

    def __call__(self, models: dict[str, Any], batch: dict[str, mx.array], ctx: Context) -> Loss:
        model, weights, targets = models["model"], batch["weights"], batch["targets"]
        around(ctx, batch)
        own = replace(ctx, key=ctx.next_key() if ctx.training else None)
        x = model.generator.encode(batch["tokens"], own)
        total, parts = masked(self.head, model.generator, x, batch, own)
        key = ctx.next_key() if ctx.training else mx.random.key(0)
        h = model.generator.head.transform(hidden_places(x, batch))
        guesses = filled(guessed(model.generator, h, key), batch)
        scores = model.judge(guesses, ctx)[..., 0].astype(mx.float32)
        replaced = (guesses != targets).astype(mx.float32)
        # A row that fills up a batch hides nothing.
        judged = batch["valid"] * weights.any(axis=1, keepdims=True)
        weight = weights.sum()
        scale = weight / mx.maximum(judged.sum(), 1)
        each = nn.losses.binary_cross_entropy(scores, replaced, with_logits=True, reduction="none")
        judgement = (each * judged).sum() * scale
        right = ((scores > 0) == (replaced > 0)).astype(mx.float32)
        parts |= {
            "discriminator_loss": mx.stop_gradient(judgement),
            "accuracy": (right * judged).sum() * scale,
            "replaced": (replaced * judged).sum(),
        }
        return summed(total + self.discriminator_weight * judgement, weight, parts, ctx)


def filled(drawn: mx.array, batch: dict[str, mx.array]) -> mx.array:
    """The text `[B, T]` with what was drawn, `[B, P]` or `[B, T]`, where it was hidden."""
    targets = batch["targets"]
    own = hidden_places(targets, batch)
    drawn = mx.where(hidden_places(batch["weights"], batch) > 0, drawn, own)
    if "places" not in batch:
        return drawn
    return mx.put_along_axis(targets, batch["places"], drawn.astype(targets.dtype), axis=1)


def guessed(generator: Any, h: mx.array, key: mx.array) -> mx.array:
    """Tokens `[B, T]` drawn from what a masked language model says of h `[B, T, D]`."""
    out, h = generator.unembedding(), mx.stop_gradient(h)
    logits = (h @ mx.stop_gradient(out.weight).T).astype(mx.float32)
    if out.bias is not None:
        logits = logits + mx.stop_gradient(out.bias)
    if out.softcap is not None:
        logits = out.softcap * mx.tanh(logits / out.softcap)
    return mx.random.categorical(logits, key=key).astype(mx.int32)
