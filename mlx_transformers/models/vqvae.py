"""A VQ-VAE: pictures become tokens of a learned codebook, and tokens pictures."""

from dataclasses import replace
from typing import ClassVar, Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field, model_validator

from ..core.context import Context, Layout
from ..core.task import Task
from ..layers.codebook import Codebook
from ..layers.patches import PatchEmbedding
from ..ops.patches import unpatch
from .model import Arrays, Model, ModelKind, TowerSpec
from .stack import Stack
from .vision import Vision, VisionModel


class Vqvae(ModelKind):
    """An encoder of patches, a codebook, and a decoder of codes to pixels.

    Van den Oord et al. 2017, section 3; the transformers in place of convolutions, and codes
    narrower than the encoder, are those of ViT-VQGAN (Yu et al. 2022, section 3.1 and 3.2).
    """

    kind: Literal["vqvae"] = "vqvae"
    tasks: ClassVar[frozenset[Task]] = frozenset({"reconstruct"})
    vocab_size: int | None = Field(256, ge=1)
    """Values of a pixel's number."""
    encoder: Vision
    """The tower that reads a picture: one code for each of its patches."""
    decoder: Vision
    """The tower that reads the codes as a picture of their own, one pixel each: `image_size` has
    the rows and columns of the encoder's patches, and `embed.channels` is the width of a code."""
    n_codes: int = Field(ge=2)
    """Codes K of the codebook."""
    decay: float = Field(0.99, ge=0, lt=1)
    """Decay of the moving means that the codes are (appendix A.1)."""
    revive: float = Field(0.1, ge=0, lt=1)
    """A code is moved to where vectors are when its share of them falls below `revive / n_codes`; 0
    leaves unused codes where they are."""

    @model_validator(mode="after")
    def _towers_fit(self) -> "Vqvae":
        for name, tower in (("encoder", self.encoder), ("decoder", self.decoder)):
            if tower.pool is not None:
                raise ValueError(f"{name}.pool has no effect: patches are read one by one.")
            if tower.patches.prefix or tower.patches.registers:
                raise ValueError(
                    f"{name}.embed has vectors beside the patches, which are no part of a picture: "
                    "set class_token = false, and no distillation_token or registers."
                )
        height, width = self.encoder.image_size
        size = self.encoder.patches.size
        if height % size or width % size:
            raise ValueError(
                f"encoder.image_size = {[height, width]} is no whole number of patches of {size} x "
                f"{size} pixels, so no decoder can fill the picture: change it or embed.size."
            )
        grid = (height // size, width // size)
        if self.decoder.image_size != grid or self.decoder.patches.size != 1:
            raise ValueError(
                f"the decoder reads one code for each of {grid[0]} x {grid[1]} patches: set "
                f"decoder.image_size = {list(grid)} and decoder.embed.size = 1."
            )
        return self

    def towers(self) -> list[TowerSpec]:
        encoder = self.encoder.vision_spec("encoder", self.encoder.dim)
        decoder = self.decoder.vision_spec("decoder", self.decoder.dim)
        return [encoder, replace(decoder, stride=encoder.stride)]

    def context(self) -> int:
        return self.encoder.context()

    def build(self, vocab_size: int) -> "VqvaeModel":
        model = VqvaeModel(self)
        self.encoder.init.apply(model, self.encoder.n_layers)
        self.decoder.init.apply(model.decoder, self.decoder.n_layers)
        return model


class VqvaeModel(Model):
    """`(pixels [B, height, width, channels], ctx) -> pictures`, of the same shape, scaled as the
    encoder's embedding scales whole numbers."""

    tasks = Vqvae.tasks

    def __init__(self, config: Vqvae) -> None:
        super().__init__()
        self.vocab_size, self.max_seq_len = config.vocab_size or 256, config.context()
        self.image_size, self.n_codes = config.encoder.image_size, config.n_codes
        self.grid, self.patch_size = config.decoder.image_size, config.encoder.patches.size
        self.channels = config.encoder.patches.channels
        width = config.decoder.patches.channels
        self.encoder, self.decoder = VisionModel(config.encoder), VisionModel(config.decoder)
        self.to_codes = nn.Linear(config.encoder.width(config.encoder.dim), width)
        self.codebook = Codebook(config.n_codes, width, config.decay, config.revive)
        self.to_pixels = nn.Linear(
            config.decoder.width(config.decoder.dim), self.patch_size**2 * self.channels
        )

    @property
    def n_patches(self) -> int:
        """Tokens of a picture."""
        return self.grid[0] * self.grid[1]

    @property
    def patches(self) -> PatchEmbedding:
        """The encoder's embedding, which knows how pixels are scaled."""
        embed = self.encoder.embed
        assert isinstance(embed, PatchEmbedding), "the embedding of a vision tower reads pixels"
        return embed

    def stacks(self) -> list[Stack]:
        return [self.encoder.stack, self.decoder.stack]

    def embedded(self, batch: Arrays, ctx: Context) -> mx.array:
        return self.encoder.embedded(batch, ctx)

    def features(self, x: mx.array, ctx: Context) -> mx.array:
        """The vectors `[B, P, C]` of the patches, before they become codes."""
        y: mx.array = self.to_codes(self.encoder.features(x, ctx))
        return y

    def encoded(self, pixels: mx.array, ctx: Context) -> mx.array:
        """`features` of pictures `[B, height, width, channels]`."""
        return self.features(self.embedded({"pixels": pixels}, ctx), ctx)

    def quantized(self, z: mx.array, ctx: Context) -> tuple[mx.array, mx.array]:
        """The codes `[B, P, C]` of vectors, and their indices `[B, P]`."""
        codes, indices = self.codebook(z, ctx)
        return codes, indices

    def decoded(self, codes: mx.array, ctx: Context) -> mx.array:
        """Pictures `[B, height, width, channels]`, scaled, of codes `[B, P, C]`."""
        pixel_ctx = replace(ctx, layout=Layout(), key=ctx.split_key())
        flat = codes.reshape(codes.shape[0], *self.grid, -1)
        h = self.decoder.features(self.decoder.embedded({"pixels": flat}, pixel_ctx), pixel_ctx)
        return unpatch(self.to_pixels(h), *self.grid, self.patch_size)

    def target(self, pixels: mx.array) -> mx.array:
        """Pixels as `decoded` should give them: whole numbers scaled."""
        if pixels.ndim == 2:
            pixels = pixels.reshape(pixels.shape[0], *self.image_size, -1)
        return self.patches.scaled(pixels)

    def picture_tokens(self, pixels: mx.array) -> mx.array:
        """The indices `[B, P]` of the codes of pictures."""
        return self.codebook.nearest(self.encoded(pixels, Context()))

    def pictures(self, indices: mx.array) -> mx.array:
        """The pictures `uint8 [B, height, width, channels]` of indices of codes `[B, P]`."""
        decoded = self.decoded(self.codebook.read(indices), Context())
        return self.patches.to_uint8(decoded)

    def __call__(self, pixels: mx.array, ctx: Context | None = None) -> mx.array:
        ctx = ctx or Context()
        codes, _ = self.quantized(self.encoded(pixels, ctx), ctx)
        return self.decoded(codes, ctx)
