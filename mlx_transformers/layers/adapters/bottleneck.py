"""Bottleneck adapters: a small trained network behind, or beside, the sublayers of each block."""

from collections.abc import Callable
from typing import Annotated, ClassVar, Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field, model_validator

from ...core.context import Context
from ...core.errors import RecipeError
from ...ops.activations import ACTIVATIONS
from ..ffns.mlp import Activation
from ..parameter import Role
from ..residual import Residual
from .adapted import Wrapper
from .adapter import AdapterKind
from .switch import Adaptation, Added, Switch
from .targets import layer_of, replace_module

Sublayer = Literal["mixer", "cross", "ffn"]
Scaling = Annotated[float, Field(gt=0)] | Literal["learned", "channel"]


def both() -> list[Sublayer]:
    """Mixer and ffn."""
    return ["mixer", "ffn"]


class Bottleneck(AdapterKind):
    """Small networks on the output h of sublayers: `h + s U act(D h)`, before the residual sum.

    Houlsby et al. 2019 ("Parameter-Efficient Transfer Learning for NLP", figure 2) behind mixer and
    ffn; Pfeiffer et al. 2021 (AdapterFusion, section 3) behind the ffn alone, on the normalised
    sum; in parallel, `h + s U act(D x)` of the stream x (He et al. 2022, section 4).
    """

    kind: Literal["bottleneck"] = "bottleneck"
    width: int = Field(16, ge=1)
    """Width of the bottleneck."""
    after: list[Sublayer] = Field(default_factory=both)
    """The sublayers that have an adapter."""
    layers: list[int] | None = None
    """Numbers of the layers of a stack that have adapters; none means all."""
    activation: Activation = "relu"
    """Activation of the bottleneck."""
    parallel: bool = False
    """Whether an adapter reads the input of the residual connection instead of the sublayer's
    output."""
    reads: Literal["output", "sum"] = "output"
    """The input: the sublayer's output, or its sum with the stream, normalised where the block's
    norm follows the sum (Pfeiffer)."""
    skip: Literal["output", "input", "sum"] = "output"
    """The term beside the adapter's own output: the sublayer's output, the adapter's input, or the
    sum before its norm."""
    norm_before: bool = False
    """Whether the input has a layer norm of the adapter's own."""
    norm_after: Literal["none", "output", "sum"] = "none"
    """Layer norm of the adapter's own output, or of its sum with the skip term."""
    scaling: Scaling = 1.0
    """The factor s: a number, a learned one, or learned ones of each feature."""
    gate: bool = False
    """Whether a sigmoid of the input, averaged over the row, weighs the adapter's output."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout on the adapter's output."""

    @model_validator(mode="after")
    def _input_is_one(self) -> "Bottleneck":
        if self.parallel and (self.reads != "output" or self.skip != "output"):
            raise ValueError("reads and skip have no effect with parallel: unset them.")
        if self.norm_after == "sum" and self.parallel:
            raise ValueError("norm_after = 'sum' has no form with parallel: take 'output'.")
        return self

    def attach(self, model: nn.Module, adaptation: Adaptation) -> None:
        names = {f"{name}_residual" for name in self.after}
        residuals = [
            (path, module)
            for path, module in sorted(model.named_modules(), key=lambda item: item[0])
            if isinstance(module, Residual)
            and path.split(".")[-1] in names
            and (self.layers is None or layer_of(path) in self.layers)
        ]
        if not residuals:
            raise RecipeError(
                f"adapt.after = {self.after} names no sublayer of the model with a residual "
                "connection of its own, within adapt.layers. Blocks with arrangement = 'parallel' "
                "have one for both."
            )
        for path, residual in residuals:
            adapter = BottleneckNetwork(self, residual.dim)
            replace_module(model, path, AdaptedResidual(residual, adapter, adaptation.switch))


class BottleneckNetwork(Added):
    """`x [..., D] -> s U act(D x) [..., D]`; U starts at zero."""

    def __init__(self, config: Bottleneck, dim: int) -> None:
        super().__init__()
        self.config = config
        self.down, self.up = nn.Linear(dim, config.width), nn.Linear(config.width, dim)
        self.up.weight = mx.zeros_like(self.up.weight)
        self.up.bias = mx.zeros_like(self.up.bias)
        self.down.bias = mx.zeros_like(self.down.bias)
        self.activation: Callable[[mx.array], mx.array] = ACTIVATIONS[config.activation]
        if config.norm_before:
            self.before = nn.LayerNorm(dim)
        if config.norm_after != "none":
            self.after = nn.LayerNorm(dim)
        if config.gate:
            self.gate = nn.Linear(dim, 1)
        if isinstance(config.scaling, str):
            self.factor = Factors(1 if config.scaling == "learned" else dim)

    def __call__(self, x: mx.array, skip: mx.array, ctx: Context) -> mx.array:
        """The adapter's output and the term beside it."""
        scaling = self.config.scaling
        h = self.up(self.activation(self.down(self.before(x) if "before" in self else x)))
        h = self.factor(h) if isinstance(scaling, str) else scaling * h
        h = ctx.dropout(h, self.config.dropout)
        if "gate" in self:
            h = h * mx.sigmoid(self.gate(x)).mean(axis=1, keepdims=True)
        if self.config.norm_after == "sum":
            return self.after(h + skip)
        return (self.after(h) if "after" in self else h) + skip


class Factors(nn.Module):
    """Learned factors of features, or one of all."""

    roles: ClassVar[dict[str, Role]] = {"weight": "vector"}

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = mx.ones((width,))

    def __call__(self, x: mx.array) -> mx.array:
        return x * self.weight


class AdaptedResidual(Wrapper):
    """A residual connection whose sublayer's output passes an adapter."""

    base: Residual

    def __init__(self, base: Residual, adapter: BottleneckNetwork, switch: Switch) -> None:
        super().__init__()
        self.base, self.adapter, self.switch = base, adapter, switch

    def __call__(self, x: mx.array, f: Callable[[mx.array], mx.array], ctx: Context) -> mx.array:
        h = self.base.before(x)
        return self.join(h if self.base.normed_skip else x, self.base.norm("post", f(h)), ctx)

    def before(self, x: mx.array) -> mx.array:
        """The input of the sublayer."""
        return self.base.before(x)

    def join(self, x: mx.array, y: mx.array, ctx: Context) -> mx.array:
        """Add the sublayer's output, adapted, to the stream."""
        return self.base.norm("out", self.base.skipped(x) + self._adapted(x, y, ctx))

    def added(self, x: mx.array, f: Callable[[mx.array], mx.array], ctx: Context) -> mx.array:
        """The sum of the sublayer and its adapter, for a stream."""
        return self._adapted(x, self.base.norm("post", f(self.before(x))), ctx)

    def _adapted(self, x: mx.array, y: mx.array, ctx: Context) -> mx.array:
        h = self.base.scaled(y, ctx)
        if not self.switch.on:
            return h
        config = self.adapter.config
        if config.parallel:
            return self.adapter(x, h, ctx)
        total = h + self.base.skipped(x)
        x_in = self.base.norm("out", total) if config.reads == "sum" else h
        skip = {"output": h, "input": x_in, "sum": total}[config.skip]
        return self.adapter(x_in, skip, ctx)

    def merged(self) -> nn.Module:
        raise RecipeError(
            "A bottleneck adapter isn't linear, so it can't be merged into the model's weights."
        )
