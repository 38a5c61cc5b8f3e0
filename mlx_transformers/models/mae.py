"""The masked autoencoder: a vision tower that reads some patches, and a decoder of the others."""

from dataclasses import replace
from typing import ClassVar, Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field, model_validator

from ..core.context import Context
from ..core.task import Task
from ..ops.patches import normalized
from .model import Arrays, Model, ModelKind, TowerSpec
from .stack import Stack, TowerModule
from .tower import Tower
from .vision import Vision

ADDED = ("grid", "learned", "sinusoidal", "none")
"""Positions that are added to the vectors of patches, so that a patch has its own wherever it
stands among those that are left."""


class PatchDecoder(Tower):
    """The tower that rebuilds patches. Its vocabulary is one token, the mask token; the vectors of
    visible patches stand in the other places."""

    dim: int = Field(ge=1)
    """Width of the decoder; half of the encoder's or less (section 4.1)."""


class Mae(ModelKind):
    """A masked autoencoder (He et al. 2021, section 3) while it is pretrained; afterwards the
    vision tower is the model.

    The encoder reads the visible patches alone; the decoder reads their vectors, projected to its
    width, with a learned mask token in the place of each other patch, and predicts the numbers of
    those.
    """

    kind: Literal["mae"] = "mae"
    tasks: ClassVar[frozenset[Task]] = frozenset({"rebuild"})
    vision: Vision
    """The encoder; it has no pool."""
    decoder: PatchDecoder
    """The decoder, which is thrown away after training."""
    mask_ratio: float = Field(0.75, gt=0, lt=1)
    """Share of the patches that are masked, at random; at least one patch is visible."""
    normalize: bool = True
    """Whether the numbers of each patch are predicted with mean 0 and variance 1 (table 1d)."""

    @model_validator(mode="after")
    def _parts_fit(self) -> "Mae":
        if self.vision.pool is not None:
            raise ValueError("vision.pool has no effect: patches are rebuilt one by one. Unset it.")
        if self.vision.n_patches == 1:
            raise ValueError(
                "vision has one patch, and one has to be visible and another one masked: set "
                "vision.embed.size to less."
            )
        for block in self.vision.layers():
            position = block.position or self.vision.position
            if position.kind not in ADDED:
                raise ValueError(
                    f"vision.position.kind = '{position.kind}' counts the patches that attend to "
                    "each other, and some are left out here. Use one that is added to each patch: "
                    f"{', '.join(repr(kind) for kind in ADDED)}."
                )
            if not block.mixer.skips_tokens:
                raise ValueError(
                    f"a mixer '{block.mixer.kind}' as this one sees how far patches stand from "
                    "each other by counting those between, and some are left out here. Use "
                    "vision.block.mixer.kind = 'attention' without a window."
                )
        return self

    @property
    def n_visible(self) -> int:
        """Patches that the encoder reads."""
        n = self.vision.n_patches
        return max(1, int(n * (1 - self.mask_ratio)))

    @property
    def n_front(self) -> int:
        """Vectors in front of the patches, which are never masked."""
        return self.vision.n_vectors - self.vision.n_patches

    def towers(self) -> list[TowerSpec]:
        sees = self.vision.vision_spec("vision", self.vision.dim)
        numbers = self.context()
        shorter = replace(sees, stride=max(1, numbers // (self.n_front + self.n_visible)))
        decodes = self.decoder.spec("decoder", self.decoder.dim)
        return [shorter, replace(decodes, stride=sees.stride)]

    def context(self) -> int:
        return self.vision.context()

    def without_helpers(
        self, weights: dict[str, mx.array]
    ) -> tuple[ModelKind, dict[str, mx.array]]:
        """The vision tower."""
        start = "vision."
        vision_weights = {
            n.removeprefix(start): w for n, w in weights.items() if n.startswith(start)
        }
        return self.vision, vision_weights

    def build(self, vocab_size: int) -> "MaeModel":
        return MaeModel(self, vocab_size)


class PatchDecoderModule(TowerModule):
    """`(x [B, F + V, W], rank [B, P], ctx) -> [B, F + P, D]`: F vectors in front and V visible
    patches, in the order of their rank; a patch of rank V or more is masked."""

    def __init__(self, config: Mae) -> None:
        vision, decoder = config.vision, config.decoder
        super().__init__(decoder, 1, decoder.dim, vision.n_vectors)
        self.front = config.n_front
        self.project = nn.Linear(vision.width(vision.dim), decoder.dim)
        numbers = vision.patches.size**2 * vision.patches.channels
        self.out = nn.Linear(decoder.width(decoder.dim), numbers)

    def __call__(self, x: mx.array, rank: mx.array, ctx: Context) -> mx.array:
        x = self.project(x)
        n_visible = x.shape[1] - self.front
        place = self.front + mx.minimum(rank, n_visible - 1)
        patches = mx.take_along_axis(x, place[..., None], axis=1)
        tokens = mx.where(rank < n_visible, -1, 0).astype(mx.int32)
        tokens = mx.pad(tokens, [(0, 0), (self.front, 0)], constant_values=-1)
        vectors = mx.concatenate([x[:, : self.front], patches], axis=1)
        ctx.layout = replace(ctx.layout, causal=False, vectors=vectors)
        return self.forward(self.embed_tokens(tokens, ctx), ctx)


class MaeModel(Model):
    """`(pixels, ctx) -> [B, P, size * size * channels]`, the patches as they are rebuilt from all.

    `embedded` and `features` are those of the vision tower, which reads every patch.
    """

    tasks = Mae.tasks

    def __init__(self, config: Mae, vocab_size: int) -> None:
        super().__init__()
        self.max_seq_len, self.vocab_size = config.context(), config.vision.vocab_size or 256
        self.n_patches, self.n_visible = config.vision.n_patches, config.n_visible
        self.front, self.normalize = config.n_front, config.normalize
        self.vision = config.vision.build(vocab_size)
        self.decoder = PatchDecoderModule(config)
        config.vision.init.apply(self.decoder, config.decoder.n_layers)

    def stacks(self) -> list[Stack]:
        return [self.vision.stack, self.decoder.stack]

    def embedded(self, batch: Arrays, ctx: Context) -> mx.array:
        return self.vision.embedded(batch, ctx)

    def features(self, x: mx.array, ctx: Context) -> mx.array:
        return self.vision.features(x, ctx)

    def targets(self, pixels: mx.array) -> mx.array:
        """The numbers of each patch as they are predicted, `[B, P, N]`: scaled as the tower reads
        them, and normalised."""
        numbers = self.vision.cut(pixels)
        return normalized(numbers) if self.normalize else numbers

    def reconstruct(self, pixels: mx.array, order: mx.array, ctx: Context) -> mx.array:
        """The numbers of every patch, `[B, P, N]`, of which those of visible ones mean nothing.

        Args:
            pixels: `[B, height, width, channels]`, or rows of their numbers.
            order: `[B, P]`, the patches of each picture: V visible ones, then the masked ones.
            ctx: of the pass.
        """
        return self._decoded(pixels, order[:, : self.n_visible], mx.argsort(order, axis=1), ctx)

    def _decoded(
        self, pixels: mx.array, visible: mx.array, rank: mx.array, ctx: Context
    ) -> mx.array:
        """The numbers `[B, P, N]` where the encoder reads the patches `visible [B, V]`."""
        x = self.vision.embedded({"pixels": pixels}, ctx)
        visible_patches = mx.take_along_axis(x, (visible + self.front)[..., None], axis=1)
        x = self.vision.features(mx.concatenate([x[:, : self.front], visible_patches], axis=1), ctx)
        h = self.decoder(x, rank, replace(ctx, key=ctx.split_key()))
        return self.decoder.out(h[:, self.front :])

    def __call__(self, pixels: mx.array, ctx: Context | None = None) -> mx.array:
        every = mx.broadcast_to(mx.arange(self.n_patches), (len(pixels), self.n_patches))
        return self._decoded(pixels, every, every, ctx or Context())
