"""IA³: trained factors of the features of keys, values and hidden layers."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import mlx.core as mx
from pydantic import Field

from ..linear import Product
from ..parameter import Role
from .adapted import Update
from .adapter import LayerAdapterKind
from .switch import Adaptation
from .targets import Target, matches


class Ia3(LayerAdapterKind):
    """Factors of activations: `l ⊙ (W x + b)` of outputs, or `W (l ⊙ x) + b` of inputs.

    Liu et al. 2022, "Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context
    Learning", section 3.3: outputs of keys and values, inputs of the last layer of each network.
    """

    kind: Literal["ia3"] = "ia3"
    targets: list[str] = Field(default_factory=lambda: ["mixer.k", "mixer.v"])
    """Layers whose outputs have factors, as in other kinds."""
    inputs: list[str] = Field(default_factory=lambda: ["ffn.down"])
    """Layers whose inputs have factors instead, also of those that `targets` names."""

    def patterns(self) -> Sequence[str]:
        return [*self.targets, *self.inputs]

    def update(self, target: Target, shape: tuple[int, ...], adaptation: Adaptation) -> "Ia3Update":
        return Ia3Update(shape, any(matches(target, pattern) for pattern in self.inputs))


class Ia3Update(Update):
    """The factors of one layer: of its outputs `[..., out]` or of its inputs `[..., in]`."""

    roles: ClassVar[dict[str, Role]] = {"factor": "vector"}

    def __init__(self, shape: tuple[int, ...], scales_input: bool) -> None:
        super().__init__()
        *stack, out, width = shape
        self.scales_input = scales_input
        self.factor = mx.ones((*stack, width if scales_input else out))

    def matrix(self, weight: mx.array) -> mx.array:
        factor = self.factor.astype(weight.dtype)
        return weight * (factor[..., None, :] if self.scales_input else factor[..., :, None])

    def bias(self, bias: mx.array | None) -> mx.array | None:
        if bias is None or self.scales_input:
            return bias
        return bias * self.factor.astype(bias.dtype)

    def product(self, x: mx.array, dropped: mx.array, frozen: Product) -> mx.array:
        factor = self.factor.astype(x.dtype)
        return frozen(x * factor) if self.scales_input else frozen(x) * factor
