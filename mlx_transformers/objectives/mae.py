"""Masked image modelling: predict the pixels of masked patches from the visible ones."""

from collections.abc import Mapping
from typing import ClassVar, Literal, Protocol

import mlx.core as mx

from ..core.context import Context
from ..core.loss import Loss, Unit
from ..core.task import Task
from .chunked_loss import with_aux
from .objective import Arrays, ObjectiveKind

EPS = 1e-6
"""Added to the variance of a patch (the authors' code)."""


class Rebuilding(Protocol):
    """A masked autoencoder of P patches, V of which it sees."""

    n_patches: int
    n_visible: int

    def targets(self, pixels: mx.array) -> mx.array:
        """The numbers of each patch, `[B, P, N]`."""
        ...

    def rebuild(self, pixels: mx.array, order: mx.array, ctx: Context) -> mx.array:
        """The numbers of each patch, `[B, P, N]`, where the first V of `order [B, P]` are seen."""
        ...


class MaskedPatches(ObjectiveKind):
    """The mean squared error of the pixels of masked patches; He et al. 2021 (MAE), section 3.

    Patches are drawn for each picture; in evaluation they are the same at every call.
    """

    kind: Literal["mae"] = "mae"
    requires: ClassVar[tuple[str, ...]] = ("pixels", "weights")
    tasks: ClassVar[frozenset[Task]] = frozenset({"rebuild"})
    unit: ClassVar[Unit] = "text"
    normalize: bool = True
    """Whether the numbers of each patch are predicted with mean 0 and variance 1 (table 1d)."""

    def build(self) -> "MaskedPatchesObjective":
        return MaskedPatchesObjective(self)


class MaskedPatchesObjective:
    """`(models, batch, ctx) -> Loss` per picture, where batch has `pixels [B, ...]` and `weights
    [B]`: the mean over its masked patches."""

    def __init__(self, config: MaskedPatches) -> None:
        self.normalize = config.normalize

    def __call__(self, models: Mapping[str, Rebuilding], batch: Arrays, ctx: Context) -> Loss:
        model, pixels, weights = models["model"], batch["pixels"], batch["weights"]
        key = ctx.next_key() if ctx.training else mx.random.key(0)
        order = mx.argsort(mx.random.uniform(shape=(len(pixels), model.n_patches), key=key), axis=1)
        rebuilt = model.rebuild(pixels, order, ctx)
        each = self.errors(rebuilt, model.targets(pixels), order[:, model.n_visible :])
        total = (each * weights).sum()
        return with_aux(total, weights.sum(), {"loss": mx.stop_gradient(total)}, ctx)

    def errors(self, rebuilt: mx.array, targets: mx.array, masked: mx.array) -> mx.array:
        """The mean squared error of each picture, `[B]`.

        Args:
            rebuilt: `[B, P, N]`, predicted numbers of the patches.
            targets: `[B, P, N]`, their numbers.
            masked: `[B, M]`, the masked patches.
        """
        found, wanted = (
            mx.take_along_axis(each, masked[..., None], axis=1).astype(mx.float32)
            for each in (rebuilt, targets)
        )
        if self.normalize:
            wanted = normalized(wanted)
        return ((found - wanted) ** 2).mean(axis=(1, 2))


def normalized(patches: mx.array) -> mx.array:
    """Patches `[..., N]` with mean 0 and variance 1, the variance with the divisor N - 1."""
    apart = patches - patches.mean(axis=-1, keepdims=True)
    variance = (apart**2).sum(axis=-1, keepdims=True) / max(1, patches.shape[-1] - 1)
    return apart * mx.rsqrt(variance + EPS)
