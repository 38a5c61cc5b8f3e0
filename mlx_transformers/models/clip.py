"""Two towers, of pictures and of texts, whose vectors are compared."""

import math
from dataclasses import replace
from typing import ClassVar, Literal

import mlx.core as mx
from pydantic import Field, model_validator

from ..core.context import Context
from ..core.task import Task
from ..layers.kinds import PoolKind
from ..layers.parameter import Role
from ..layers.pools import Sentence, width_read
from ..ops.contrastive import pair_logits
from .encoder import Encoder
from .model import Arrays, Model, ModelKind, TowerSpec
from .stack import Stack
from .vision import Vision


class Clip(ModelKind):
    """A tower of pictures and a tower of texts, and the scale of the cosines of their vectors.

    CLIP (Radford et al. 2021), figure 3; with `logit_bias`, SigLIP (Zhai et al. 2023), algorithm 1.
    """

    kind: Literal["clip"] = "clip"
    tasks: ClassVar[frozenset[Task]] = frozenset({"match"})
    vision: Vision
    """The tower of pictures; its pool gives their vectors."""
    text: Encoder
    """The tower of texts; its pool gives vectors of the same width."""
    log_scale: float = math.log(1 / 0.07)
    """Logarithm of the learned scale of the cosines, 1 / temperature, at the start (SigLIP:
    ln 10)."""
    max_scale: float | None = Field(100.0, gt=1)
    """The largest scale (CLIP, section 2.5); none means there is no limit (SigLIP)."""
    logit_bias: float | None = None
    """A learned number that is added to all logits, at the start (SigLIP: -10); none means there is
    none."""

    @model_validator(mode="after")
    def _vectors_have_one_width(self) -> "Clip":
        widths = {}
        for name, tower in (("vision", self.vision), ("text", self.text)):
            if tower.pool is None or tower.pool.kind not in ("sentence", "attention"):
                raise ValueError(
                    f"{name}.pool gives the vectors that are compared: set its kind to 'sentence' "
                    "or 'attention'."
                )
            widths[name] = _width(tower.pool, tower.width(tower.dim))
        if widths["vision"] != widths["text"]:
            raise ValueError(
                f"vision.pool gives vectors of width {widths['vision']}, and text.pool of width "
                f"{widths['text']}: set pool.activation = 'identity' and one pool.width in both."
            )
        if self.text.head is not None:
            raise ValueError("text.head has no effect: texts are compared by their pool. Unset it.")
        return self

    def towers(self) -> list[TowerSpec]:
        sees = self.vision.vision_spec("vision", self.vision.dim)
        return [replace(sees, reads_source=True), self.text.spec("text", self.text.dim)]

    def context(self) -> int:
        return self.text.context()

    def build(self, vocab_size: int) -> "ClipModel":
        return ClipModel(self, self.vocab_size or self.text.vocab_size or vocab_size)


def _width(pool: PoolKind, dim: int) -> int:
    """Width of a pool's vectors."""
    if not isinstance(pool, Sentence):
        return dim
    read = width_read(pool.reads, dim)
    return read if pool.activation is None else pool.width or read


class ClipModel(Model):
    """`(tokens [B, T], ctx, pixels) -> logits [N, B]` of N pictures and B texts.

    `embedded`, `features` and `pooled` are those of the tower of texts.
    """

    tasks = Clip.tasks
    roles: ClassVar[dict[str, Role]] = {"log_scale": "own", "logit_bias": "own"}

    def __init__(self, config: Clip, vocab_size: int) -> None:
        super().__init__()
        self.vocab_size, self.max_seq_len = vocab_size, config.text.max_seq_len
        self.max_log_scale = math.inf if config.max_scale is None else math.log(config.max_scale)
        self.vision = config.vision.build(vocab_size)
        self.text = config.text.build(vocab_size)
        self.log_scale = mx.array(config.log_scale)
        if config.logit_bias is not None:
            self.logit_bias = mx.array(config.logit_bias)

    def stacks(self) -> list[Stack]:
        return [*self.vision.stacks(), *self.text.stacks()]

    def embedded(self, batch: Arrays, ctx: Context) -> mx.array:
        return self.text.embedded(batch, ctx)

    def features(self, x: mx.array, ctx: Context) -> mx.array:
        return self.text.features(x, ctx)

    def pooled(self, x: mx.array, ctx: Context) -> mx.array:
        """The vectors of texts, `[B, W]`, for `x` of `features`."""
        return self.text.pooled(x, ctx)

    def encode_image(self, pixels: mx.array, ctx: Context) -> mx.array:
        """The vectors `[N, W]` of pictures `[N, height, width, channels]`."""
        x = self.vision.embedded({"pixels": pixels}, ctx)
        return self.vision.pooled(self.vision.features(x, ctx), ctx)

    def logits(self, pictures: mx.array, texts: mx.array) -> mx.array:
        """Scaled cosines `[N, B]` of vectors `[N, W]` and `[B, W]`."""
        bias = self.logit_bias if "logit_bias" in self else None
        scale = self.log_scale
        if self.max_log_scale < math.inf:
            scale = mx.minimum(scale, self.max_log_scale)
        return pair_logits(pictures, texts, scale, bias)

    def __call__(self, tokens: mx.array, ctx: Context | None, pixels: mx.array) -> mx.array:
        ctx = ctx or Context()
        image_ctx = ctx.inner()
        texts = self.pooled(self.features(self.embedded({"tokens": tokens}, ctx), ctx), ctx)
        return self.logits(self.encode_image(pixels, image_ctx), texts)
