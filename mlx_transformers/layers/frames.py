"""Slot `embed` for sound: convolutions over frames of its spectrum."""

import math
from typing import ClassVar, Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field

from ..core.context import Context
from ..core.footprint import ActivationShape
from ..ops.activations import gelu
from ..ops.strided_conv import saved_frames, strided_conv
from .kinds import EmbedKind, Reads


class Frames(EmbedKind):
    """Frames of a spectrum as vectors: convolutions with GELU, then positions.

    Whisper (Radford et al. 2022), section 2.2: two convolutions of width 3, of which the second
    halves the number of frames.
    """

    kind: Literal["frames"] = "frames"
    reads: ClassVar[Reads] = "frames"
    n_mels: int = Field(80, ge=1)
    """Features of a frame: filters of the mel scale."""
    kernel: int = Field(3, ge=1)
    """Frames that a convolution reads, an odd number."""
    strides: list[int] = Field([1, 2], min_length=1)
    """For each convolution the frames from one output to the next."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout on the vectors."""

    def build(self, vocab_size: int, dim: int, table: bool = True) -> "FrameEmbedding":
        """The module; neither the vocabulary nor `table` is read."""
        return FrameEmbedding(self, dim)

    def position_width(self, dim: int) -> int:
        return dim

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """For each vector: what each convolution reads and its output, and the dropout mask."""
        outputs, width, numbers = math.prod(self.strides), self.n_mels, 0
        for stride in self.strides:
            outputs //= stride
            read = saved_frames(self.kernel, stride, cpu=at.cpu) * width
            numbers, width = numbers + outputs * (read + dim), dim
        return float(numbers * at.itemsize + (dim if self.dropout else 0))


class FrameEmbedding(nn.Module):
    """`(frames [B, T, n_mels], ctx) -> [B, T / strides, D]`; rows of numbers `[B, N]` are frames
    that follow each other."""

    def __init__(self, config: Frames, dim: int) -> None:
        super().__init__()
        self.dropout, self.n_mels = config.dropout, config.n_mels
        widths = [config.n_mels, *(dim for _ in config.strides)]
        self.convs = [
            nn.Conv1d(width, dim, config.kernel, stride, padding=config.kernel // 2)
            for width, stride in zip(widths, config.strides, strict=False)
        ]

    def __call__(
        self, tokens: mx.array, ctx: Context, table: nn.Embedding | None = None
    ) -> mx.array:
        x = tokens.reshape(tokens.shape[0], -1, self.n_mels).astype(self.convs[0].weight.dtype)
        for conv in self.convs:
            x = gelu(strided_conv(x, conv.weight, conv.bias, conv.stride, conv.padding))
        return ctx.dropout(ctx.position.embed(x, ctx), self.dropout)
