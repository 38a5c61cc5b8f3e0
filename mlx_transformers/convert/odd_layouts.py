"""Transforms of layouts that lack a tensor of ours, or that cut tensors at other rows."""

from dataclasses import dataclass

import mlx.core as mx

from ..core.errors import ConvertError
from .transforms import Arrays, Split, Transform


@dataclass(frozen=True)
class Unbalanced:
    """A router of E experts without a bias of balance there, with one here, which is zero."""

    def load(self, theirs: Arrays) -> Arrays:
        return [theirs[0], mx.zeros((len(theirs[0]),))]

    def save(self, ours: Arrays) -> Arrays:
        gate, balance = ours
        if mx.any(balance != 0).item():
            raise ConvertError(
                "A router has learned a bias that balances its experts, which this layout can't "
                "say. Train with ffn.router.speed = 0 to export the model in it."
            )
        return [gate]


@dataclass(frozen=True)
class Resplit:
    """As many tensors on either side, which may be cut at other rows there; `via` turns each."""

    sizes: tuple[int, ...]
    via: Transform

    def load(self, theirs: Arrays) -> Arrays:
        return Split(self.sizes).load([mx.concatenate(self.via.load(theirs))])

    def save(self, ours: Arrays) -> Arrays:
        return self.via.save(ours)
