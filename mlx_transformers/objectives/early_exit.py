"""Causal language modelling at every layer, so that decoding can leave the stack early."""

from collections.abc import Mapping
from typing import ClassVar, Literal, Protocol

import mlx.core as mx
from pydantic import Field

from ..core.context import Context
from ..core.loss import Loss
from ..core.task import Task
from .chunked_loss import ChunkedLoss, with_aux
from .clm import next_tokens
from .objective import Arrays, ChunkedKind, VocabularyModel


class EarlyExit(ChunkedKind):
    """The loss of next-token prediction from the output of each layer, through one norm and head.

    Elhoushi et al. 2024 (LayerSkip), section 3.2: `Σ_l c_l e_l CE_l / Σ_l c_l e_l`, where layer l
    of L, from 0, has `e_l = scale · Σ_{i ≤ l} i`, and the last one
    `L - 1 + scale · Σ_{i ≤ L - 2} i`; c is a curriculum of training. Its
    dropout of layers is the depth kind `layer_drop`.
    """

    kind: Literal["early_exit"] = "early_exit"
    requires: ClassVar[tuple[str, ...]] = ("tokens",)
    tasks: ClassVar[frozenset[Task]] = frozenset({"causal_lm"})
    models: ClassVar[tuple[str, ...]] = ("decoder",)
    scale: float = Field(1.0, gt=0)
    """Weight of earlier layers against the last one."""
    curriculum: Literal["all", "rotational", "gradual"] = "all"
    """Layers whose loss counts in a step: all; the last one and each `every`-th one, from a random
    start (`rotational`: their logits alone are computed); or one layer more, from the last down,
    after each 1/(2 L) of the run (`gradual`)."""
    every: int = Field(2, ge=1)
    """R of the rotational curriculum: a layer counts in one of R steps."""

    def build(self) -> "EarlyExitObjective":
        return EarlyExitObjective(self)


class ExitModel(VocabularyModel, Protocol):
    """A model whose logits can be computed from the output of any layer."""

    def exit(self, h: mx.array) -> mx.array:
        """The vectors that meet the unembedding, for the output `h` of a layer."""
        ...


class EarlyExitObjective:
    """`(models, batch, ctx) -> Loss`; batches are those of causal language modelling.

    Its metric "loss" is that of the last layer, "exit_loss" the weighted mean of all.
    """

    def __init__(self, config: EarlyExit) -> None:
        self.config = config
        self.head = ChunkedLoss.of(config)

    def __call__(self, models: Mapping[str, ExitModel], batch: Arrays, ctx: Context) -> Loss:
        model = models["model"]
        inputs, targets, weights = next_tokens(batch, ctx)
        ctx.collected.layers = []
        h = model.hidden(model.embedded({**batch, "tokens": inputs}, ctx), ctx)
        earlier = ctx.collected.layers[:-1]
        shares = layer_weights(len(earlier) + 1, self.config.scale)
        last, parts = self.head(model, h, targets, weights, ctx)
        total, mass = shares[-1] * last, mx.array(shares[-1])
        for share, x in self._exits(shares[:-1], earlier, ctx):
            loss, _ = self.head(model, model.exit(x), targets, weights, ctx)
            total, mass = total + share * loss, mass + share
        total = total / mass
        return with_aux(total, weights.sum(), parts | {"exit_loss": total}, ctx)

    def _exits(
        self, shares: list[float], layers: list[mx.array], ctx: Context
    ) -> list[tuple[mx.array, mx.array]]:
        """The weight and the output of each earlier layer that counts."""
        weights, n = mx.array(shares), len(layers)
        if self.config.curriculum == "gradual" and ctx.training:
            begins = (n - mx.arange(n)) / (2 * (n + 1))
            weights = weights * (ctx.scalars.get("progress", mx.array(1.0)) >= begins)
        if self.config.curriculum == "rotational" and ctx.training and self.config.every <= n:
            every = self.config.every
            start = mx.random.randint(0, every, key=mx.stop_gradient(ctx.next_key()))
            stacked = mx.stack(layers)
            chosen = [start + every * i for i in range(n // every)]
            return [(weights[i], stacked[i]) for i in chosen]
        return [(weights[i], x) for i, x in enumerate(layers) if shares[i]]


def layer_weights(n_layers: int, scale: float) -> list[float]:
    """The weights e of the losses of all layers."""
    earlier = [scale * layer * (layer + 1) / 2 for layer in range(n_layers - 1)]
    before = (n_layers - 2) * (n_layers - 1) / 2
    return [*earlier, n_layers - 1 + scale * before]
