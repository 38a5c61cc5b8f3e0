"""The vision transformer: an encoder of the patches of a picture."""

from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import mlx.core as mx
from pydantic import Field, model_validator

from ..core.context import Context
from ..core.task import Task
from ..layers.kinds import InitKind, PoolKind, Reads
from ..layers.patches import PatchEmbedding, Patches
from ..recipe.slot import Slot
from .model import Arrays, Model, ModelKind, TowerSpec
from .stack import Stack, TowerModule
from .tower import Tower


class VisionTower(Tower):
    """A tower over the patches of pictures."""

    reads: ClassVar[Reads] = "pixels"
    image_size: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]
    """Height and width of the pictures, in pixels. Others can be read where `position` is `grid`,
    `rope_grid` or `none`. Rows and columns at the end that fill no patch are left out (SigLIP reads
    378 of 384 in patches of 14)."""

    @model_validator(mode="after")
    def _pictures_have_a_patch(self) -> "VisionTower":
        if min(self.image_size) < self.patches.size:
            raise ValueError(
                f"image_size = {list(self.image_size)} is less than a patch, embed.size = "
                f"{self.patches.size}: change one of them."
            )
        return self

    @property
    def patches(self) -> Patches:
        """The embedding."""
        assert isinstance(self.embed, Patches), "the embedding of a vision tower reads pixels"
        return self.embed

    @property
    def n_patches(self) -> int:
        """Patches of a picture of `image_size`."""
        height, width = self.image_size
        return (height // self.patches.size) * (width // self.patches.size)

    @property
    def n_vectors(self) -> int:
        """Vectors of such a picture: patches, and what stands in front of them."""
        return self.patches.prefix + self.patches.registers + self.n_patches

    def vision_spec(self, path: str, dim: int) -> TowerSpec:
        """This tower as the planner sees it, where a row of a batch is the pixels of a picture."""
        numbers = self.image_size[0] * self.image_size[1] * self.patches.channels
        return replace(self.spec(path, dim), stride=max(1, numbers // self.n_vectors))


class Vision(VisionTower, ModelKind):
    """A vision transformer: patches, L blocks in which every patch sees every other, norm, pool.

    Dosovitskiy et al. 2021 (ViT), section 3.1; DeiT (Touvron et al. 2021), DINOv2 (Oquab et al.
    2023), and the towers of CLIP (Radford et al. 2021) and SigLIP (Zhai et al. 2023). `pool` gives
    one vector, or the class, of a picture.
    """

    kind: Literal["vision"] = "vision"
    tasks: ClassVar[frozenset[Task]] = frozenset({"see"})
    vocab_size: int | None = Field(256, ge=1)
    """Values of a pixel's number, for data whose pictures are rows of numbers."""
    dim: int = Field(ge=1)
    """Width D of the residual stream."""
    pool: Annotated[PoolKind, Slot("pool")] | None = None
    """The vector or class of a picture; none means there is none."""
    init: Annotated[InitKind, Slot("init")]
    """How weights start."""

    def towers(self) -> list[TowerSpec]:
        return [self.vision_spec("", self.dim)]

    def context(self) -> int:
        return self.image_size[0] * self.image_size[1] * self.patches.channels

    def build(self, vocab_size: int) -> "VisionModel":
        model = VisionModel(self)
        self.init.apply(model, self.n_layers)
        return model


class VisionTowerModule(TowerModule):
    """`(pixels, ctx) -> [B, T, D]`, where pixels are `[B, height, width, channels]`."""

    def __init__(self, config: VisionTower, dim: int) -> None:
        super().__init__(config, 1, dim, config.n_vectors)
        self.image_size = config.image_size

    def embed_pixels(self, pixels: mx.array, ctx: Context) -> mx.array:
        """The input of the first block; pictures may be rows of their numbers `[B, N]`."""
        ctx.layout = replace(ctx.layout, causal=False)
        return self.embed_tokens(self._shaped(pixels), ctx)

    def cut(self, pixels: mx.array) -> mx.array:
        """The numbers of each patch as the embedding projects them, `[B, P, N]`."""
        assert isinstance(self.embed, PatchEmbedding), "the embedding of a vision tower"
        return self.embed.cut(self._shaped(pixels), Context())

    def _shaped(self, pixels: mx.array) -> mx.array:
        if pixels.ndim == 2:
            pixels = pixels.reshape(pixels.shape[0], *self.image_size, -1)
        return pixels


class VisionModel(VisionTowerModule, Model):
    """`(pixels, ctx) -> ` the pool's output, or the vectors `[B, T, D]` where there is no pool."""

    tasks = Vision.tasks

    def __init__(self, config: Vision) -> None:
        super().__init__(config, config.dim)
        self.max_seq_len, self.vocab_size = config.context(), config.vocab_size or 256
        if config.pool is not None:
            self.pool = config.pool.build(config.width(config.dim))

    def stacks(self) -> list[Stack]:
        return [self.stack]

    def embedded(self, batch: Arrays, ctx: Context) -> mx.array:
        return self.embed_pixels(batch["pixels"], ctx)

    def features(self, x: mx.array, ctx: Context) -> mx.array:
        return self.forward(x, ctx)

    def pooled(self, x: mx.array, ctx: Context) -> mx.array:
        """The pool's output `[B, ...]` for `x` of `features`."""
        y: mx.array = self.pool(x, ctx)
        return y

    def __call__(self, pixels: mx.array, ctx: Context | None = None) -> mx.array:
        ctx = ctx or Context()
        x = self.features(self.embedded({"pixels": pixels}, ctx), ctx)
        return self.pooled(x, ctx) if "pool" in self else x
