"""Slot `embed`: token embeddings."""

import math
from typing import Annotated, Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field, model_validator

from ..core.context import Context
from ..core.errors import RecipeError
from ..core.footprint import ActivationShape
from ..core.shapes import BTD, IntBT
from ..recipe.slot import Slot
from .kinds import EmbedKind, NormKind
from .linear import rows_of

MASKED_SHARE = 0.12
"""Share of tokens that ESM's training replaced by the mask: 80 % of 15 %."""


class TokenEmbed(EmbedKind):
    """Token embeddings, plus position and token type embeddings.

    `x = drop(norm(position.embed(scale · table[tokens] + types[layout.types])))`; Vaswani et al.
    2017, sections 3.4 and 5.4; types and norm: BERT (Devlin et al. 2018, figure 2). With `width`
    the embedding is factorised: the sum is projected from `width` to the model's (Lan et al. 2019,
    ALBERT, section 3.1).
    """

    kind: Literal["token"] = "token"
    scale: Literal["one", "sqrt_dim"] | Annotated[float, Field(gt=0)] = "one"
    """Factor of the token embeddings: `sqrt_dim` is √D (the 2017 transformer, Gemma); or a number
    (Granite)."""
    n_types: int | None = Field(None, ge=1)
    """Number of token types; none means no token type embeddings (BERT: 2)."""
    norm: Annotated[NormKind, Slot("norm")] | None = None
    """Normalisation of the sum; none means no normalisation (BERT, BLOOM: layer_norm)."""
    norm_of: Literal["sum", "words"] = "sum"
    """The input of the norm: the sum, or the token embeddings alone (Blenderbot 90M)."""
    width: int | None = Field(None, ge=1)
    """Width of the table, if not the model's (ALBERT, ELECTRA, OPT 350M)."""
    project: Literal["sum", "bare_sum", "words"] = "sum"
    """The vector that is projected from `width` to the model's: the normalised sum (ALBERT), the
    sum before its norm (DeBERTa), or the token embeddings alone, so that positions have the
    model's width (OPT)."""
    project_bias: bool = False
    """Whether that projection has a bias."""
    zeroed: int | None = Field(None, ge=0)
    """Id of the mask token, whose embedding is zero; the other embeddings of the row are rescaled
    by (1 - 0.12) / (1 - share of masks in the row), as ESM does. None: no such token."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout on the sum of the embeddings."""

    @model_validator(mode="after")
    def _projection_exists(self) -> "TokenEmbed":
        if self.width is None and (self.project != "sum" or self.project_bias):
            raise ValueError("project and project_bias have no effect without width.")
        if self.norm is None and self.norm_of != "sum":
            raise ValueError("norm_of has no effect without norm.")
        if self.norm_of == "words" and self.project == "bare_sum":
            raise ValueError("project = 'bare_sum' normalises what it projects: the sum.")
        return self

    def build(self, vocab_size: int, dim: int, table: bool = True) -> "TokenEmbedding":
        """The module; without `table` it reads a table that its caller passes."""
        return TokenEmbedding(self, vocab_size, dim, table)

    def position_width(self, dim: int) -> int:
        """Width of the vectors that position embeddings are added to."""
        return self.width if self.width is not None and self.project != "words" else dim

    def norm_width(self, dim: int) -> int:
        """Width of the norm's input."""
        return self.position_width(dim) if self.project != "bare_sum" else dim

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """The norm's input and the dropout mask; a lookup saves nothing."""
        norm = self.norm.saved_bytes(self.norm_width(dim), at) if self.norm else 0.0
        return norm + (dim if self.dropout else 0)


class TokenEmbedding(nn.Module):
    """`(tokens [B, T], ctx) -> [B, T, D]`; a tied head reads `table` too."""

    def __init__(self, config: TokenEmbed, vocab_size: int, dim: int, table: bool) -> None:
        super().__init__()
        width = config.width or dim
        if table:
            self.table = nn.Embedding(vocab_size, width)
        scales = {"one": 1.0, "sqrt_dim": math.sqrt(width)}
        self.scale = scales[config.scale] if isinstance(config.scale, str) else config.scale
        self.dropout, self.zeroed = config.dropout, config.zeroed
        self.projects = config.project
        self.norm_first = config.norm_of == "words"
        if config.n_types is not None:
            self.types = nn.Embedding(config.n_types, config.position_width(dim))
        if config.norm is not None:
            self.norm = config.norm.build(config.norm_width(dim))
        if config.width is not None:
            self.project = nn.Linear(width, dim, bias=config.project_bias)

    def __call__(self, tokens: IntBT, ctx: Context, table: nn.Embedding | None = None) -> BTD:
        x = self._words(tokens, ctx, self.table if table is None else table)
        if self.scale != 1.0:
            x = x * self.scale
        if self.zeroed is not None:
            x = x * self._rescaling(tokens, ctx).astype(x.dtype)
        if self._projects("words"):
            x = self.project(x)
        if "norm" in self and self.norm_first:
            x = self.norm(x)
        if "types" in self:
            types = mx.zeros_like(tokens) if ctx.layout.types is None else ctx.layout.types
            x = x + rows_of(self.types, types)
        x = ctx.position.embed(x, ctx)
        x = self.project(x) if self._projects("bare_sum") else x
        if "norm" in self and not self.norm_first:
            x = self.norm(x)
        x = ctx.dropout(x, self.dropout)
        return self.project(x) if self._projects("sum") else x

    def _words(self, tokens: mx.array, ctx: Context, table: nn.Module) -> mx.array:
        """The rows of the table, or the vectors given in their place, `[B, T, W]`."""
        vectors = ctx.layout.vectors
        if vectors is None:
            return rows_of(table, tokens)
        rows = rows_of(table, mx.maximum(tokens, 0))
        if vectors.shape[-1] != rows.shape[-1]:
            raise RecipeError(
                f"The model reads vectors of width {rows.shape[-1]}, and gets some of "
                f"{vectors.shape[-1]}: set model.embed.width to that."
            )
        return mx.where((tokens < 0)[..., None], vectors.astype(rows.dtype), rows)

    def _rescaling(self, tokens: mx.array, ctx: Context) -> mx.array:
        """The factor of each token's embedding, `[B, T, 1]`: 0 for the mask token."""
        masked = (tokens == self.zeroed).astype(mx.float32)
        length = (
            tokens.shape[1]
            if ctx.layout.valid is None
            else ctx.layout.valid.sum(axis=1, keepdims=True)
        )
        share = masked.sum(axis=1, keepdims=True) / length
        # no division by zero in a row of masks alone
        return ((1 - masked) * (1 - MASKED_SHARE) / mx.maximum(1 - share, 1e-6))[..., None]

    def _projects(self, what: str) -> bool:
        return "project" in self and self.projects == what
