"""Optimizer state in fewer bits: wide while it is used, narrow while it waits.

    wide = unpack(state)      w = the optimizer's own update      state = pack(wide)

Rounding is stochastic: up or down with the chances that keep the mean. To the nearest, a moment
that moves by less than half a step, as Adam's second one does when it keeps 0.999 of the past,
would stand still for ever.
"""

from collections.abc import Iterator
from typing import Literal, Protocol

import mlx.core as mx
import mlx.optimizers as mlx_optim

from ..recipe.config import Kind
from .moments8 import Int8

StateDtype = Literal["float32", "bfloat16", "int8"]


class Form(Protocol):
    """How an array of optimizer state is kept."""

    def pack(self, x: mx.array, positive: bool, key: mx.array | None) -> mx.array | dict:
        """A float32 array in few bits; without a key to the nearest, `positive` if it is >= 0."""

    def unpack(self, packed: mx.array | dict, like: mx.array) -> mx.array:
        """It in the shape of `like`, float32."""


class Bfloat16:
    """The upper half of a float32: 8 bits of exponent, 7 of mantissa."""

    def pack(self, x: mx.array, positive: bool, key: mx.array | None) -> mx.array:
        if key is None:
            return x.astype(mx.bfloat16)
        # What is cut off, plus a uniform 16-bit number, carries into what is kept.
        raised = x.view(mx.uint32) + mx.random.randint(0, 2**16, x.shape, mx.uint32, key)
        return (raised & 0xFFFF0000).view(mx.float32).astype(mx.bfloat16)

    def unpack(self, packed: mx.array | dict, like: mx.array) -> mx.array:
        assert isinstance(packed, mx.array)
        return packed.astype(mx.float32)


FORMS: dict[str, Form] = {"bfloat16": Bfloat16(), "int8": Int8()}


class Packed(mlx_optim.Optimizer):
    """Another optimizer, whose state is packed between updates.

    The draws of the rounding follow from the number of the update alone, so a resumed run rounds
    as the whole one did, and so does every process of a group.
    """

    def __init__(self, inner: mlx_optim.Optimizer, form: Form, positive: frozenset[str]) -> None:
        super().__init__(inner._schedulers)
        self.inner = inner
        self._state = inner.state  # one rate and one step, for the schedule and the update
        self.form = form
        self.positive = positive
        self._keys: Iterator[mx.array] = iter(())

    def init_single(self, parameter: mx.array, state: dict) -> None:
        """Zeros, packed."""
        wide: dict[str, mx.array] = {}
        self.inner.init_single(parameter, wide)
        state.update({k: self.form.pack(x, k in self.positive, None) for k, x in wide.items()})

    def apply_gradients(self, gradients: dict, parameters: dict) -> dict:
        """One update of all parameters."""
        self._keys = _chain(self.step)
        return super().apply_gradients(gradients, parameters)

    def apply_single(self, gradient: mx.array, parameter: mx.array, state: dict) -> mx.array:
        """One parameter's update."""
        wide = {name: self.form.unpack(packed, parameter) for name, packed in state.items()}
        new = self.inner.apply_single(gradient, parameter, wide)
        for name, x in wide.items():
            state[name] = self.form.pack(x, name in self.positive, next(self._keys))
        return new


class Moments(Kind):
    """What optimizers share that keep arrays as large as the parameters."""

    state: StateDtype = "float32"
    """What the moments are kept in between updates: 4, 2 or 1 bytes a number. int8 is block-wise
    (Dettmers et al. 2022), and leaves arrays below 4096 numbers in float32."""

    @property
    def pointwise(self) -> bool:
        """Whether no number is kept relative to others of its array."""
        return self.state != "int8"

    def stored(self, optimizer: mlx_optim.Optimizer, *positive: str) -> mlx_optim.Optimizer:
        """The optimizer with its state as `state` says; `positive` moments are never below 0."""
        if self.state == "float32":
            return optimizer
        return Packed(optimizer, FORMS[self.state], frozenset(positive))


def _chain(step: mx.array) -> Iterator[mx.array]:
    """Keys without end, from the number of an update."""
    key = mx.stack([step >> 32, step & 0xFFFFFFFF]).astype(mx.uint32)
    while True:
        key, drawn = mx.random.split(key)
        yield drawn
