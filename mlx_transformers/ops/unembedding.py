"""The unembedding: the linear layer from hidden vectors to logits over the vocabulary."""

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx

from ..core.shapes import xD, xV
from .device import upcast
from .softcap import soft_cap


@dataclass(frozen=True)
class Unembedding:
    """`soft_cap(h Wᵀ + b)`; losses that hold no `[N, V]` logits read its parts instead.

    Attributes:
        weight: W, `[V, D]`.
        bias: b, `[V]`; None: no bias.
        softcap: bound of the logits; None: unbounded.
        frozen: whether losses leave out the gradient of W.
    """

    weight: mx.array
    bias: mx.array | None = None
    softcap: float | None = None
    frozen: bool = False

    @classmethod
    def of(cls, leaves: Sequence[mx.array], softcap: float | None) -> "Unembedding":
        """The unembedding with the arrays `[weight]` or `[weight, bias]`."""
        weight, *bias = leaves
        return cls(weight, bias[0] if bias else None, softcap)

    def scaled(self, factor: float) -> "Unembedding":
        """The unembedding whose logits are `factor` times these."""
        if factor == 1.0:
            return self
        bias = None if self.bias is None else self.bias * factor
        softcap = None if self.softcap is None else self.softcap * factor
        return Unembedding(self.weight * factor, bias, softcap, self.frozen)

    def logits(self, h: xD) -> xV:
        """The logits `[..., V]` of hidden vectors `[..., D]`, in the dtype of the product."""
        return self._bounded(h @ self.weight.T)

    def logits_upcast(self, h: xD) -> xV:
        """`logits` whose bias and bound are computed in float32 or wider."""
        return self._bounded(upcast(h @ self.weight.T))

    def _bounded(self, logits: xV) -> xV:
        if self.bias is not None:
            logits = logits + self.bias
        return soft_cap(logits, self.softcap)
