"""A language model that sees: a vision tower, a projector, and a decoder that reads both."""

from dataclasses import replace
from typing import ClassVar, Literal

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from pydantic import Field, model_validator

from ..core.context import Context
from ..core.errors import RunError
from ..core.task import Task
from ..layers.ffns.mlp import Activation
from ..layers.kinds import State
from ..ops.activations import ACTIVATIONS
from ..ops.unembedding import Unembedding
from .decoder import Decoder, DecoderModel
from .model import Arrays, Decodable, ModelKind, TowerSpec
from .stack import Stack
from .vision import Vision, VisionModel


class Vlm(ModelKind):
    """A decoder that reads projected patches of pictures in the place of image tokens.

    LLaVA (Liu et al. 2023), section 4.1; two layers in the projector: LLaVA 1.5 (Liu et al. 2024,
    section 3.2). Stages of training freeze parts by their paths: `vision`, `project`, `language`.
    """

    kind: Literal["vlm"] = "vlm"
    tasks: ClassVar[frozenset[Task]] = frozenset({"causal_lm"})
    vision: Vision
    """The tower that reads pictures; it has no pool."""
    language: Decoder
    """The model that reads and writes text."""
    image_token: int = Field(ge=0)
    """Token whose vectors are those of a picture's patches: a row has one for each patch."""
    feature_layers: list[int] = Field([-1], min_length=1)
    """Layers of the tower whose vectors are projected, side by side: 0 is its first layer's input,
    -1 the output of its last one, before the norm (LLaVA: -2)."""
    drop_class: bool = True
    """Whether the vector in front of the patches is left out."""
    projector: Literal["linear", "mlp"] = "mlp"
    """One linear layer (LLaVA 1), or two with an activation between them (LLaVA 1.5)."""
    activation: Activation = "gelu"
    """Activation of that projector."""
    bias: bool = True
    """Whether its layers have a bias."""

    @model_validator(mode="after")
    def _parts_fit(self) -> "Vlm":
        if self.vision.pool is not None:
            raise ValueError("vision.pool has no effect: patches are read one by one. Unset it.")
        n = self.vision.n_layers
        for layer in self.feature_layers:
            if not -n - 1 <= layer <= n:
                raise ValueError(
                    f"feature_layers names layer {layer}, and vision.n_layers is {n}: choose from "
                    f"0 to {n}, or -{n + 1} to -1."
                )
        return self

    def towers(self) -> list[TowerSpec]:
        sees = self.vision.vision_spec("vision", self.vision.dim)
        return [replace(sees, reads_source=True), self.language.spec("language", self.language.dim)]

    def context(self) -> int | None:
        return self.language.context()

    def build(self, vocab_size: int) -> "VlmModel":
        model = VlmModel(self, self.vocab_size or self.language.vocab_size or vocab_size)
        self.language.init.apply(model, self.language.n_layers)
        self.vision.init.apply(model.vision, self.vision.n_layers)
        return model


class VlmModel(Decodable):
    """`(tokens [B, T], ctx, pixels) -> logits [B, T, V]`.

    Pixels are `[B, n, height, width, channels]`, n pictures for each row, or `[B * n, ...]`; the
    first image token of a row is the first patch of its first picture.
    """

    tasks = Vlm.tasks

    def __init__(self, config: Vlm, vocab_size: int) -> None:
        super().__init__()
        self.image_size = config.vision.image_size
        self.channels = config.vision.patches.channels
        self.image_token, self.drop_class = config.image_token, config.drop_class
        self.feature_layers = tuple(config.feature_layers)
        self.vision = VisionModel(config.vision)
        self.language = DecoderModel(config.language, vocab_size)
        self.vocab_size, self.max_seq_len = vocab_size, config.language.max_seq_len
        width, dim = config.vision.dim * len(config.feature_layers), config.language.dim
        self.project = nn.Linear(width, dim, bias=config.bias)
        if config.projector == "mlp":
            self.project_out = nn.Linear(dim, dim, bias=config.bias)
            self.activation = ACTIVATIONS[config.activation]

    def stacks(self) -> list[Stack]:
        return [self.vision.stack, self.language.stack]

    def encode_images(self, pixels: mx.array, rows: int, ctx: Context) -> mx.array:
        """The image embeddings of each row, projected to the width of the decoder, `[rows, N, D]`.

        Raises:
            RunError: the pictures can't be shared out evenly to the rows.
        """
        flat = pixels.reshape(-1, *pixels.shape[-3:])
        if len(flat) % rows:
            raise RunError(
                f"{len(flat)} pictures can't be shared out to {rows} rows: give every row as many, "
                "with empty ones where a row has fewer."
            )
        image_ctx = ctx.inner()
        image_ctx.collected.layers = []
        x = self.vision.embedded({"pixels": flat}, image_ctx)
        self.vision.stack(x, image_ctx)
        states = [x, *image_ctx.collected.layers]
        skip = 1 if self.drop_class else 0
        chosen = [states[layer][:, skip:] for layer in self.feature_layers]
        y = self.project(mx.concatenate(chosen, axis=-1))
        if "project_out" in self:
            y = self.project_out(self.activation(y))
        return y.reshape(rows, -1, y.shape[-1])

    def image_token_count(self, pixels: mx.array) -> int:
        """The image tokens of a row that shows the pictures `[n, height, width, channels]`."""
        return self.encode_images(pixels, 1, Context()).shape[1]

    def admit(self, tokens: mx.array, pixels: mx.array | None) -> None:
        """Refuse rows of `tokens [B, T]` whose image tokens are not those of their pictures.

        Raises:
            RunError: a row has image tokens without a picture, or the other way round.
        """
        counts = np.array((tokens == self.image_token).sum(axis=1))
        size = 0 if pixels is None else self.encode_images(pixels, len(tokens), Context()).shape[1]
        for row in range(len(tokens)):
            count = int(counts[row])
            if count != size:
                raise RunError(
                    f"Row {row + 1} has {count} image tokens (id {self.image_token}), and its "
                    f"pictures have {size} patches. Write one image token for each patch, and give "
                    "a picture for each of them."
                )

    def _placed(
        self, tokens: mx.array, images: mx.array, seen: mx.array
    ) -> tuple[mx.array, mx.array]:
        """Tokens with -1 for each patch, and the vectors of those, `[B, T, D]`.

        `seen [B]` patches came before. Image tokens beyond the last patch are read as tokens.
        """
        is_image = tokens == self.image_token
        index = mx.cumsum(is_image.astype(mx.int32), axis=1) - 1 + seen[:, None]
        is_image = is_image & (index < images.shape[1])
        index = mx.clip(index, 0, images.shape[1] - 1)
        return mx.where(is_image, -1, tokens), mx.take_along_axis(images, index[..., None], axis=1)

    def embedded(self, batch: Arrays, ctx: Context) -> mx.array:
        tokens = batch["tokens"].astype(mx.int32)
        if "pixels" in batch:
            images = self.encode_images(batch["pixels"], len(tokens), ctx)
            start = mx.zeros((len(tokens),), mx.int32)
            tokens, vectors = self._placed(tokens, images, start)
            ctx.layout = replace(ctx.layout, vectors=vectors)
        return self.language.embed_tokens(tokens, ctx)

    def features(self, x: mx.array, ctx: Context) -> mx.array:
        return self.language.features(x, ctx)

    def transform(self, h: mx.array) -> mx.array:
        return self.language.transform(h)

    def exit(self, h: mx.array) -> mx.array:
        return self.language.exit(h)

    def unembedding(self) -> Unembedding:
        return self.language.unembedding()

    def __call__(
        self, tokens: mx.array, ctx: Context | None = None, pixels: mx.array | None = None
    ) -> mx.array:
        ctx = ctx or Context()
        batch = {"tokens": tokens} | ({} if pixels is None else {"pixels": pixels})
        x = self.features(self.embedded(batch, ctx), ctx)
        return self.language.head(x, self.language.embed.table)

    def init_layers(self, batch: int, length: int, dtype: mx.Dtype, given: Arrays) -> State:
        """The decode state before the first token, beside the `pixels` of `given`."""
        state = self.language.init_layers(batch, length, dtype, given)
        if "pixels" not in given:
            return state
        images = self.encode_images(given["pixels"], batch, Context())
        return state | {"images": images, "seen": mx.zeros((batch,), mx.int32)}

    @property
    def recompute_beyond(self) -> int | None:
        return self.language.recompute_beyond

    def step(self, tokens: mx.array, state: State) -> tuple[mx.array, State]:
        if "images" not in state:
            return self.language.step(tokens, state)
        tokens = tokens.astype(mx.int32)  # a chosen token is unsigned
        placed, vectors = self._placed(tokens, state["images"], state["seen"])
        logits, after = self.language.step_with(placed, vectors, state)
        seen = state["seen"] + (placed < 0).sum(axis=1).astype(mx.int32)
        return logits, after | {"seen": seen}
