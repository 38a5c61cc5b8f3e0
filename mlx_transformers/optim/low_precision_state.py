"""Low-precision optimizer state: float32 during the update, bfloat16 or int8 between updates.

    wide = unpack(state)      w = the optimizer's own update      state = pack(wide)

Stochastic rounding keeps the mean unbiased. Round-to-nearest would freeze a moment that changes by
less than half a rounding step, such as Adam's second moment with a decay of 0.999.
"""

from collections.abc import Iterator
from typing import Any, Literal, Protocol

import mlx.core as mx
import mlx.optimizers as mlx_optim

from ..recipe.config import Kind
from .int8_state import Int8

StateDtype = Literal["float32", "bfloat16", "int8"]


class StateFormat(Protocol):
    """Storage format of optimizer state."""

    def pack(self, x: mx.array, positive: bool, key: mx.array | None) -> mx.array | dict[str, Any]:
        """Return a float32 array in the format, rounded stochastically with a key, else to nearest;
        `positive` arrays have no negative element."""

    def unpack(self, packed: mx.array | dict[str, Any], like: mx.array) -> mx.array:
        """Return the array as float32, in the shape of `like`."""


class Bfloat16:
    """bfloat16: the upper half of a float32, with 8 bits of exponent and 7 of mantissa."""

    def pack(self, x: mx.array, positive: bool, key: mx.array | None) -> mx.array:
        if key is None:
            return x.astype(mx.bfloat16)
        # The lower half plus a uniform 16-bit number carries into the upper half.
        raised = x.view(mx.uint32) + mx.random.randint(0, 2**16, x.shape, mx.uint32, key)
        return (raised & 0xFFFF0000).view(mx.float32).astype(mx.bfloat16)

    def unpack(self, packed: mx.array | dict[str, Any], like: mx.array) -> mx.array:
        assert isinstance(packed, mx.array)
        return packed.astype(mx.float32)


STATE_FORMATS: dict[str, StateFormat] = {"bfloat16": Bfloat16(), "int8": Int8()}


class PackedOptimizer(mlx_optim.Optimizer):
    """Wraps an optimizer, whose state is packed between updates.

    The random numbers of the rounding depend on the number of the update alone, so a resumed run
    and every process of a group round alike.
    """

    def __init__(
        self, inner: mlx_optim.Optimizer, form: StateFormat, positive: frozenset[str]
    ) -> None:
        super().__init__(inner._schedulers)
        self.inner = inner
        self._state = inner.state  # one rate and one step, for the schedule and the update
        self.form = form
        self.positive = positive
        self._keys: Iterator[mx.array] = iter(())

    def init_single(self, parameter: mx.array, state: dict[str, Any]) -> None:
        """Make the packed state of one parameter, zeros."""
        wide: dict[str, mx.array] = {}
        self.inner.init_single(parameter, wide)
        state.update({k: self.form.pack(x, k in self.positive, None) for k, x in wide.items()})

    def apply_gradients(
        self, gradients: dict[str, Any], parameters: dict[str, Any]
    ) -> dict[str, Any]:
        """Return all parameters after one update."""
        self._keys = _rounding_keys(self.step)
        return super().apply_gradients(gradients, parameters)

    def apply_single(
        self, gradient: mx.array, parameter: mx.array, state: dict[str, Any]
    ) -> mx.array:
        """Return one parameter after its update."""
        wide = {name: self.form.unpack(packed, parameter) for name, packed in state.items()}
        new = self.inner.apply_single(gradient, parameter, wide)
        for name, x in wide.items():
            state[name] = self.form.pack(x, name in self.positive, next(self._keys))
        return new


class LowPrecisionState(Kind):
    """Base of optimizers whose state has arrays as large as the parameters."""

    state: StateDtype = "float32"
    """Precision of the moments between updates: 4, 2 or 1 bytes per element, with stochastic
    rounding. int8 is block-wise (Dettmers et al. 2022); arrays below 4096 elements stay float32."""

    @property
    def pointwise(self) -> bool:
        """Whether the stored value of an element depends on no other element of its array."""
        return self.state != "int8"

    def pack_state(self, optimizer: mlx_optim.Optimizer, *positive: str) -> mlx_optim.Optimizer:
        """Return the optimizer with packed state; the moments in `positive` are never negative."""
        if self.state == "float32":
            return optimizer
        return PackedOptimizer(optimizer, STATE_FORMATS[self.state], frozenset(positive))


def _rounding_keys(step: mx.array) -> Iterator[mx.array]:
    """Yield an endless sequence of PRNG keys that depends on the number of an update alone."""
    key = mx.stack([step >> 32, step & 0xFFFFFFFF]).astype(mx.uint32)
    while True:
        key, drawn = mx.random.split(key)
        yield drawn
