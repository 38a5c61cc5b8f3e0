"""Slot `embed` for pictures: each patch is projected to one vector."""

from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field, model_validator

from ..core.context import Context
from ..core.footprint import ActivationShape
from ..ops.patches import patches
from ..recipe.slot import Slot
from .kinds import EmbedKind, NormKind, Reads
from .parameter import Role


class Patches(EmbedKind):
    """Patches of a picture as vectors: `drop(norm(position.embed([class; W patch + b])))`.

    ViT (Dosovitskiy et al. 2021), equation 1. Distillation token: DeiT (Touvron et al. 2021),
    section 3. Registers, tokens without positions whose outputs are discarded: Darcet et al. 2024.
    """

    kind: Literal["patches"] = "patches"
    reads: ClassVar[Reads] = "pixels"
    size: int = Field(ge=1)
    """Pixels on a side of a patch."""
    channels: int = Field(3, ge=1)
    """Numbers of a pixel: 3 for colours, 1 for grey."""
    bias: bool = True
    """Whether the projection has a bias."""
    class_token: bool = True
    """Whether a learned vector stands in front, whose output can stand for the picture."""
    distillation_token: bool = False
    """Whether a second one follows it (DeiT)."""
    registers: int = Field(0, ge=0)
    """Learned vectors without positions after the class token (DINOv2 with registers: 4)."""
    norm: Annotated[NormKind, Slot("norm")] | None = None
    """Normalisation of all vectors; none means no normalisation (CLIP: layer_norm)."""
    mean: list[float] = Field([0.5], min_length=1)
    """Mean of each channel, or of all, where pixels are whole numbers: `(x / 255 - mean) / std`.
    Pixels that are floats are read as they are."""
    std: list[float] = Field([0.5], min_length=1)
    """Standard deviation of each channel, or of all."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout on the vectors."""

    @model_validator(mode="after")
    def _channels_agree(self) -> "Patches":
        for name, numbers in (("mean", self.mean), ("std", self.std)):
            if len(numbers) not in (1, self.channels):
                raise ValueError(
                    f"{name} has {len(numbers)} numbers for {self.channels} channels: give one for "
                    "each, or one for all."
                )
        if min(self.std) <= 0:
            raise ValueError("std divides the pixels, so it is above 0.")
        return self

    @property
    def prefix(self) -> int:
        """Vectors with a position in front of the patches."""
        return self.class_token + self.distillation_token

    def build(self, vocab_size: int, dim: int, table: bool = True) -> "PatchEmbedding":
        """The module; neither the vocabulary nor `table` is read."""
        return PatchEmbedding(self, dim)

    def position_width(self, dim: int) -> int:
        return dim

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """The pixels of a patch, the norm's input and the dropout mask."""
        pixels = self.size**2 * self.channels * at.itemsize
        norm = self.norm.saved_bytes(dim, at) if self.norm else 0.0
        return pixels + norm + (dim if self.dropout else 0)


class PatchEmbedding(nn.Module):
    """`(pixels [B, height, width, channels], ctx) -> [B, prefix + registers + P, D]`.

    Rows of numbers `[B, T]` are patches that are already cut, one after the other. Otherwise
    `ctx.layout.grid` becomes the rows and columns of the patches.
    """

    roles: ClassVar[dict[str, Role]] = {
        "class_token": "vector",
        "distillation_token": "vector",
        "registers": "vector",
    }

    def __init__(self, config: Patches, dim: int) -> None:
        super().__init__()
        self.size, self.channels, self.dropout = config.size, config.channels, config.dropout
        self.mean, self.std = tuple(config.mean), tuple(config.std)
        self.project = nn.Linear(config.size**2 * config.channels, dim, bias=config.bias)
        if config.class_token:
            self.class_token = mx.zeros((dim,))
        if config.distillation_token:
            self.distillation_token = mx.zeros((dim,))
        if config.registers:
            self.registers = mx.zeros((config.registers, dim))
        if config.norm is not None:
            self.norm = config.norm.build(dim)

    def __call__(
        self, tokens: mx.array, ctx: Context, table: nn.Embedding | None = None
    ) -> mx.array:
        x = self.project(self.cut(tokens, ctx))
        first = [self[name] for name in ("class_token", "distillation_token") if name in self]
        front = [self._each(vector[None], x) for vector in first]
        x = ctx.position.embed(mx.concatenate([*front, x], axis=1), ctx)
        if "registers" in self:
            n = len(first)
            x = mx.concatenate([x[:, :n], self._each(self.registers, x), x[:, n:]], axis=1)
        return ctx.dropout(self.norm(x) if "norm" in self else x, self.dropout)

    def cut(self, pixels: mx.array, ctx: Context) -> mx.array:
        """The numbers of each patch, scaled, `[B, P, size * size * channels]`."""
        if pixels.ndim == 2:
            cut = pixels.reshape(pixels.shape[0], -1, self.size**2, self.channels)
            return self.scaled(cut).flatten(-2)
        rows, columns = pixels.shape[1] // self.size, pixels.shape[2] // self.size
        ctx.layout = replace(ctx.layout, grid=(rows, columns))
        return patches(self.scaled(pixels), self.size)

    def scaled(self, pixels: mx.array) -> mx.array:
        """Pixels in the dtype of the weights, whole numbers scaled."""
        dtype = self.project.bias.dtype if "bias" in self.project else mx.float32
        if not mx.issubdtype(pixels.dtype, mx.integer):
            return pixels
        scaled = (pixels.astype(mx.float32) / 255 - mx.array(self.mean)) / mx.array(self.std)
        return scaled.astype(dtype)

    def to_uint8(self, x: mx.array) -> mx.array:
        """Scaled pixels as levels from 0 to 255: the inverse of `scaled`."""
        levels = (x.astype(mx.float32) * mx.array(self.std) + mx.array(self.mean)) * 255
        return mx.clip(mx.round(levels), 0, 255).astype(mx.uint8)

    @staticmethod
    def _each(vectors: mx.array, x: mx.array) -> mx.array:
        """The same vectors `[n, D]` for every row, `[B, n, D]`."""
        return mx.broadcast_to(vectors.astype(x.dtype), (x.shape[0], *vectors.shape))
