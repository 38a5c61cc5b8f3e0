"""Small models that keep the protocol of objectives, and fit in a line of NumPy each."""

from dataclasses import replace
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from mlx_transformers.core.context import Context
from mlx_transformers.ops.unembedding import Unembedding

WIDTH = 6
VOCAB = 13


class Reader(nn.Module):
    """An encoder: each token's vector, its type's, and the mean of what exists around it."""

    def __init__(self, vocab_size: int, n_classes: int = 3, seed: int = 0) -> None:
        super().__init__()
        draw = np.random.default_rng(seed).standard_normal
        self.table = mx.array(draw((vocab_size, WIDTH)).astype(np.float32))
        self.types = mx.array(draw((2, WIDTH)).astype(np.float32))
        self.out = mx.array(draw((vocab_size, WIDTH)).astype(np.float32))
        self.classes = mx.array(draw((n_classes, WIDTH)).astype(np.float32))

    def embedded(self, batch: Any, ctx: Context) -> mx.array:
        ctx.layout = replace(ctx.layout, causal=False)
        x = self.table[batch["pixels"] if "pixels" in batch else batch["tokens"]]
        return x if ctx.layout.types is None else x + self.types[ctx.layout.types]

    def features(self, x: mx.array, ctx: Context) -> mx.array:
        return x + mean(x, ctx.layout.valid)[:, None]

    def transform(self, h: mx.array) -> mx.array:
        return 2 * h

    def hidden(self, x: mx.array, ctx: Context) -> mx.array:
        return self.transform(self.features(x, ctx))

    def unembedding(self) -> Unembedding:
        return Unembedding(self.out, None, None)

    def pooled(self, x: mx.array, ctx: Context) -> mx.array:
        return mean(x, ctx.layout.valid) @ self.classes.T

    def __call__(self, tokens: mx.array, ctx: Context) -> mx.array:
        return self.features(self.embedded({"tokens": tokens}, ctx), ctx) @ self.classes.T


class Folder(Reader):
    """An encoder of alignments of two residues: their pairs are products of their vectors."""

    def pooled(self, x: mx.array, ctx: Context) -> mx.array:
        rows = x.reshape(x.shape[0], -1, 2, WIDTH).mean(axis=1)
        return (rows[:, :, None] * rows[:, None]) @ self.classes.T


class Writer(Reader):
    """An encoder and a decoder: each token's vector and the mean of the memory that exists."""

    def embedded(self, batch: Any, ctx: Context) -> mx.array:
        source, valid = self.table[batch["source"]], batch["source_valid"]
        ctx.memory = source + mean(source, valid)[:, None]
        ctx.memory_valid = valid
        return self.table[batch["tokens"]]

    def hidden(self, x: mx.array, ctx: Context) -> mx.array:
        assert ctx.layout.causal
        assert ctx.layout.valid is None
        assert ctx.memory is not None
        return x + mean(ctx.memory, ctx.memory_valid)[:, None]


class Comparing(Reader):
    """Texts, pictures as other rows of the table, and their products."""

    def encode_image(self, pixels: mx.array, ctx: Context) -> mx.array:
        return self.table[pixels].mean(axis=1) @ self.classes.T

    def logits(self, pictures: mx.array, texts: mx.array) -> mx.array:
        return pictures @ texts.T / 5


class Pairing(Reader):
    """Words as they are given and as they are predicted."""

    def features(self, x: mx.array, ctx: Context) -> mx.array:
        return x

    def predicted(self, tokens: mx.array) -> mx.array:
        return self.out[tokens]


class Painting(Reader):
    """Vectors of the table as codes, rounded, and pictures of three numbers each."""

    def encoded(self, pixels: mx.array, ctx: Context) -> mx.array:
        return self.table[pixels]

    def quantized(self, z: mx.array, ctx: Context) -> tuple[mx.array, mx.array]:
        codes = mx.round(2 * z) / 2
        return z + mx.stop_gradient(codes - z), mx.zeros(z.shape[:2], mx.int32)

    def decoded(self, codes: mx.array, ctx: Context) -> mx.array:
        return codes @ self.classes.T

    def target(self, pixels: mx.array) -> mx.array:
        return pixels[..., None] / VOCAB


class Coded(nn.Module):
    """Codes of pictures that depend on the run that made them."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed % 3

    def picture_tokens(self, pixels: mx.array) -> mx.array:
        return (pixels[:, :3] + self.seed) % 3


class Reconstructing(Reader):
    """Patches are numbers times a vector; one is guessed by its place and by what is seen."""

    n_patches, n_visible = 6, 2

    def targets(self, pixels: mx.array) -> mx.array:
        return self.types[0] * pixels[..., None]

    def reconstruct(self, pixels: mx.array, order: mx.array, ctx: Context) -> mx.array:
        seen = mx.take_along_axis(pixels, order[:, : self.n_visible], axis=1)
        return self.table[: self.n_patches] + self.table[seen].mean(axis=1)[:, None]


class Hearing(Writer):
    """A writer whose memory is the frames of a sound themselves."""

    def embedded(self, batch: Any, ctx: Context) -> mx.array:
        ctx.memory, ctx.memory_valid = batch["frames"], None
        return self.table[batch["tokens"]]


class Both(nn.Module):
    """A generator and a discriminator."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.generator = Reader(vocab_size, seed=1)
        self.discriminator = Reader(vocab_size, n_classes=1, seed=2)

    def __call__(self, tokens: mx.array, ctx: Context) -> mx.array:
        return self.discriminator(tokens, ctx)


def mean(x: mx.array, valid: mx.array | None) -> mx.array:
    """Over the tokens that exist."""
    if valid is None:
        return x.mean(axis=1)
    share = valid.astype(x.dtype)[..., None]
    return (x * share).sum(axis=1) / share.sum(axis=1)


def numpy_of(model: Reader) -> dict[str, np.ndarray]:
    """Its weights in float64."""
    names = ("table", "types", "out", "classes")
    return {name: np.asarray(getattr(model, name), np.float64) for name in names}


def model_of(kind: str, vocab_size: int) -> Any:
    """The model that an objective of a kind is tried with."""
    makes = {
        "seq2seq": Writer,
        "rtd": Both,
        "clip": Comparing,
        "mae": Reconstructing,
        "distogram": Folder,
        "transcribe": Hearing,
        "negative_sampling": Pairing,
        "vqvae": Painting,
    }
    return makes.get(kind, Reader)(vocab_size)
