"""Masked image modelling: predict the pixels of masked patches from the visible ones."""

from collections.abc import Mapping
from typing import ClassVar, Literal, Protocol

import mlx.core as mx

from ..core.context import Context
from ..core.loss import Loss, Unit
from ..core.task import Task
from .chunked_loss import with_aux
from .objective import Arrays, ObjectiveKind


class MaskedAutoencoder(Protocol):
    """A masked autoencoder of P patches, V of which it sees."""

    n_patches: int
    n_visible: int

    def targets(self, pixels: mx.array) -> mx.array:
        """The numbers of each patch as they are predicted, `[B, P, N]`."""
        ...

    def reconstruct(self, pixels: mx.array, order: mx.array, ctx: Context) -> mx.array:
        """The numbers of each patch, `[B, P, N]`, where the first V of `order [B, P]` are seen."""
        ...


class MaskedPatches(ObjectiveKind):
    """The mean squared error of the pixels of masked patches; He et al. 2021 (MAE), section 3.

    Patches are drawn for each picture; in evaluation those of a picture are always the same.
    """

    kind: Literal["mae"] = "mae"
    requires: ClassVar[tuple[str, ...]] = ("pixels", "weights")
    tasks: ClassVar[frozenset[Task]] = frozenset({"rebuild"})
    unit: ClassVar[Unit] = "text"

    def build(self) -> "MaskedPatchesObjective":
        return MaskedPatchesObjective()


class MaskedPatchesObjective:
    """`(models, batch, ctx) -> Loss` per picture, where batch has `pixels [B, ...]` and `weights
    [B]`: the mean over its masked patches."""

    def __call__(
        self, models: Mapping[str, MaskedAutoencoder], batch: Arrays, ctx: Context
    ) -> Loss:
        model, pixels, weights = models["model"], batch["pixels"], batch["weights"]
        keys = mx.random.split(ctx.next_key(), len(pixels)) if ctx.training else own_keys(pixels)
        order = mx.argsort(drawn(keys, model.n_patches), axis=1)
        reconstructed = model.reconstruct(pixels, order, ctx)
        losses = self.errors(reconstructed, model.targets(pixels), order[:, model.n_visible :])
        total = (losses * weights).sum()
        return with_aux(total, weights.sum(), {"loss": mx.stop_gradient(total)}, ctx)

    def errors(self, reconstructed: mx.array, targets: mx.array, masked: mx.array) -> mx.array:
        """The mean squared error of each picture, `[B]`.

        Args:
            reconstructed: `[B, P, N]`, predicted numbers of the patches.
            targets: `[B, P, N]`, their numbers.
            masked: `[B, M]`, the masked patches.
        """
        predicted, expected = (
            mx.take_along_axis(array, masked[..., None], axis=1).astype(mx.float32)
            for array in (reconstructed, targets)
        )
        return ((predicted - expected) ** 2).mean(axis=(1, 2))


def drawn(keys: mx.array, n: int) -> mx.array:
    """Numbers from 0 to 1, `[B, n]`, a row for each of `keys [B, 2]`."""
    rows: mx.array = mx.vmap(lambda key: mx.random.uniform(shape=(n,), key=key))(keys)
    return rows


def own_keys(pixels: mx.array) -> mx.array:
    """A random key `[B, 2]` of each picture `[B, ...]` that follows from its pixels alone, so that
    its masked patches don't depend on the batch that it is in."""
    bits = mx.view(pixels.reshape(len(pixels), -1).astype(mx.float32), mx.uint32)
    odd = 2 * mx.arange(bits.shape[1], dtype=mx.uint32) + 1
    sums = (bits * odd).sum(axis=1)
    return mx.stack([mx.zeros_like(sums), sums], axis=1)
