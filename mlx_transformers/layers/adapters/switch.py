"""The switch that all adapters of a model share: on or off, and the keys of their dropout."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import mlx.core as mx
import mlx.nn as nn

from ...core.context import Context, Draws


@dataclass
class Switch:
    """Whether the adapters of a model take part, and the record of the present pass.

    Attributes:
        on: False computes the base alone, such as the reference policy of a preference loss.
        draws: the record of the present pass.
    """

    on: bool = True
    draws: Draws = field(default_factory=Draws)

    def dropout(self, x: mx.array, rate: float, number: int) -> mx.array:
        """Inverted dropout on the input of adapter `number`.

        Linear layers see no context, and a checkpointed block computes twice: the mask depends on
        the pass's key and the adapter alone. Without a key (evaluation, decoding) there is none.
        """
        switch, key = DROPOUT.get()
        if switch is not self or key is None or rate == 0.0:
            return x
        self.draws.any = True
        key = mx.stop_gradient(key) + mx.array([0, number], mx.uint32)
        keep = mx.random.bernoulli(1.0 - rate, x.shape, key=key)
        return mx.where(keep, x * (1.0 / (1.0 - rate)), mx.zeros((), x.dtype))


DROPOUT: ContextVar[tuple[Switch | None, mx.array | None]] = ContextVar(
    "DROPOUT", default=(None, None)
)
"""The switch of the adapters that the present pass trains, and the PRNG key of their dropout. A
context variable, so that a recomputation in the backward pass finds it (core/recompute.py)."""


class Added(nn.Module):
    """A module that an adaptation adds to a model: checkpoints of an adapted run hold it."""


class Adaptation(Added):
    """The part of an adapted model that belongs to none of its layers: the switch, and weights
    that its adapters share. It is the model's child `adaptation`."""

    def __init__(self) -> None:
        super().__init__()
        self.switch = Switch()


NAME = "adaptation"
"""The attribute of a model that holds its `Adaptation`."""


def adaptation_of(model: nn.Module) -> Adaptation | None:
    """The adaptation of a model; None where it has no adapters."""
    adaptation = model.get(NAME)
    return adaptation if isinstance(adaptation, Adaptation) else None


@contextmanager
def adapters_off(model: nn.Module) -> Iterator[None]:
    """Compute the base of an adapted model alone, inside a trace too.

    Whole weights that are trained beside adapters (`adapt.train`, biases) stay as they are.
    """
    adaptation = adaptation_of(model)
    if adaptation is None:
        yield
        return
    was, adaptation.switch.on = adaptation.switch.on, False
    try:
        yield
    finally:
        adaptation.switch.on = was


@contextmanager
def adapter_dropout(model: nn.Module, ctx: Context) -> Iterator[None]:
    """Give the adapters of a model a PRNG key of a training pass."""
    adaptation = adaptation_of(model)
    if adaptation is None or ctx.key is None:
        yield
        return
    switch = adaptation.switch
    switch.draws = ctx.collected.draws
    token = DROPOUT.set((switch, ctx.split_key()))
    try:
        yield
    finally:
        DROPOUT.reset(token)
