"""Reconstruction of pictures from the codes of a VQ-VAE."""

from collections.abc import Mapping
from typing import ClassVar, Literal, Protocol

import mlx.core as mx
from pydantic import Field

from ..core.context import Context
from ..core.loss import Loss, Unit
from ..core.task import Task
from .chunked_loss import with_aux
from .objective import Arrays, ObjectiveKind


class Quantizing(Protocol):
    """A model that encodes a picture as codes, and decodes it from them."""

    def encoded(self, pixels: mx.array, ctx: Context) -> mx.array:
        """The vectors `[B, P, C]` of pictures."""
        ...

    def quantized(self, z: mx.array, ctx: Context) -> tuple[mx.array, mx.array]:
        """Their codes, with the gradient of the vectors, and the codes' indices `[B, P]`."""
        ...

    def decoded(self, codes: mx.array, ctx: Context) -> mx.array:
        """The pictures `[B, height, width, channels]` of codes, scaled."""
        ...

    def target(self, pixels: mx.array) -> mx.array:
        """Pixels as `decoded` should give them."""
        ...


class Reconstruction(ObjectiveKind):
    """The squared error of a picture and of its codes: `mean |x - x'|² + β mean |z - sg(e)|²`.

    Van den Oord et al. 2017, equation 3; its second term, which moves the codes, is the moving
    mean of the codebook (appendix A.1). Pixels are scaled as the encoder reads them.
    """

    kind: Literal["vqvae"] = "vqvae"
    requires: ClassVar[tuple[str, ...]] = ("pixels", "weights")
    tasks: ClassVar[frozenset[Task]] = frozenset({"reconstruct"})
    unit: ClassVar[Unit] = "text"
    commitment: float = Field(0.25, ge=0)
    """β, which holds the encoder's vectors near their codes."""

    def build(self) -> "ReconstructionObjective":
        return ReconstructionObjective(self)


class ReconstructionObjective:
    """`(models, batch, ctx) -> Loss` per picture, where batch has `pixels [B, ...]` and
    `weights [B]`."""

    def __init__(self, config: Reconstruction) -> None:
        self.commitment = config.commitment

    def __call__(self, models: Mapping[str, Quantizing], batch: Arrays, ctx: Context) -> Loss:
        model, pixels, weights = models["model"], batch["pixels"], batch["weights"]
        z = model.encoded(pixels, ctx)
        codes, _ = model.quantized(z, ctx)
        off = _mean_square(z - mx.stop_gradient(codes)) * weights
        error = _mean_square(model.decoded(codes, ctx) - model.target(pixels)) * weights
        plain, commitment = error.sum(), self.commitment * off.sum()
        parts = {"loss": mx.stop_gradient(plain), "commitment": mx.stop_gradient(commitment)}
        return with_aux(plain + commitment, weights.sum(), parts, ctx)


def _mean_square(x: mx.array) -> mx.array:
    """The mean square of each row, `[B]`, in float32."""
    return mx.square(x.astype(mx.float32)).reshape(len(x), -1).mean(axis=1)
