"""Replaced token detection: a generator fills masks, a discriminator finds the filled ones."""

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Literal, Protocol

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field

from ..core.context import Context
from ..core.loss import Loss
from ..core.task import Task
from .chunked_loss import ChunkedLoss, with_aux
from .mlm import bidirectional, gather_masked, masked
from .objective import Arrays, ChunkedKind, VocabularyModel


class Rtd(ChunkedKind):
    """`mean over masks of the generator's -log p + discriminator_weight · mean over tokens of the
    discriminator's binary cross-entropy`; Clark et al. 2020 (ELECTRA), section 2 and equation 1.

    The generator's tokens are sampled from its distribution; no gradient goes through the sample.
    """

    kind: Literal["rtd"] = "rtd"
    requires: ClassVar[tuple[str, ...]] = ("tokens", "targets", "weights", "valid")
    tasks: ClassVar[frozenset[Task]] = frozenset({"detect_replaced"})
    discriminator_weight: float = Field(50.0, gt=0)
    """λ; 50 in section 3.1's experiments."""

    @property
    def couples_rows(self) -> str:
        return (
            "The discriminator's mean over all tokens is weighted by the masked ones of a "
            "microbatch."
        )

    def build(self) -> "RtdObjective":
        return RtdObjective(self)


class ReplacedTokenModel(Protocol):
    """A generator, which is a masked language model, and a discriminator."""

    generator: VocabularyModel

    def __call__(self, tokens: mx.array, ctx: Context) -> mx.array:
        """The discriminator's logit of each token being replaced, `[B, T, 1]`."""
        ...


class RtdObjective:
    """`(models, batch, ctx) -> Loss`, where batch is as for masked language modelling.

    The weight is the number of masked tokens; the discriminator's mean over all tokens is
    multiplied by it.
    """

    def __init__(self, config: Rtd) -> None:
        self.head, self.discriminator_weight = ChunkedLoss.of(config), config.discriminator_weight

    def __call__(
        self, models: Mapping[str, ReplacedTokenModel], batch: Arrays, ctx: Context
    ) -> Loss:
        model, weights, targets = models["model"], batch["weights"], batch["targets"]
        bidirectional(ctx, batch)
        generator_ctx = replace(ctx, key=ctx.split_key())
        x = model.generator.features(model.generator.embedded(batch, generator_ctx), generator_ctx)
        total, parts = masked(self.head, model.generator, x, batch, generator_ctx)
        key = ctx.next_key() if ctx.training else mx.random.key(0)
        h = model.generator.transform(gather_masked(x, batch))
        guesses = fill_masks(sample_tokens(model.generator, h, key), batch)
        scores = model(guesses, ctx)[..., 0].astype(mx.float32)
        replaced = (guesses != targets).astype(mx.float32)
        # A filler row has no masked tokens.
        judged = batch["valid"] * weights.any(axis=1, keepdims=True)
        weight = weights.sum()
        scale = weight / mx.maximum(judged.sum(), 1)
        losses = nn.losses.binary_cross_entropy(
            scores, replaced, with_logits=True, reduction="none"
        )
        judgement = (losses * judged).sum() * scale
        right = ((scores > 0) == (replaced > 0)).astype(mx.float32)
        parts |= {
            "discriminator_loss": mx.stop_gradient(judgement),
            "accuracy": (right * judged).sum() * scale,
            "replaced": (replaced * judged).sum(),
        }
        return with_aux(total + self.discriminator_weight * judgement, weight, parts, ctx)


def fill_masks(sampled: mx.array, batch: Arrays) -> mx.array:
    """The text `[B, T]` with the sampled tokens, `[B, P]` or `[B, T]`, in place of the masks."""
    targets = batch["targets"]
    original = gather_masked(targets, batch)
    sampled = mx.where(gather_masked(batch["weights"], batch) > 0, sampled, original)
    if "places" not in batch:
        return sampled
    return mx.put_along_axis(targets, batch["places"], sampled.astype(targets.dtype), axis=1)


def sample_tokens(generator: VocabularyModel, h: mx.array, key: mx.array) -> mx.array:
    """Sample tokens `[B, T]` from a masked language model's distribution at h `[B, T, D]`."""
    logits = mx.stop_gradient(generator.unembedding().logits_upcast(h))
    return mx.random.categorical(logits, key=key).astype(mx.int32)
