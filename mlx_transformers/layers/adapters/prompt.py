"""Prompt tuning: trained vectors ahead of the embeddings of a row."""

from dataclasses import replace
from typing import ClassVar, Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field

from ...core.context import Context, Layout
from ...core.errors import RecipeError
from ..embed import TokenEmbedding
from ..linear import matrix, rows_of
from ..parameter import Role
from .adapted import Wrapper
from .adapter import AdapterKind
from .switch import Adaptation, Added, Switch
from .targets import replace_module


class Prompt(AdapterKind):
    """Trained vectors in the place of the embeddings of virtual tokens before each row.

    Lester et al. 2021, "The Power of Scale for Parameter-Efficient Prompt Tuning", section 2. Of an
    encoder-decoder the encoder reads them.
    """

    kind: Literal["prompt"] = "prompt"
    length: int = Field(16, ge=1)
    """Virtual tokens P, which start as the embeddings of random tokens."""

    def attach(self, model: nn.Module, adaptation: Adaptation) -> None:
        modules = sorted(model.named_modules(), key=lambda item: item[0])
        embeds = [(path, m) for path, m in modules if isinstance(m, TokenEmbedding)]
        sources = [pair for pair in embeds if pair[0].startswith("encoder.")] or embeds
        if not sources:
            raise RecipeError(
                "adapt.kind = 'prompt' puts vectors before token embeddings, of which this model "
                "has none."
            )
        for path, embed in sources:
            table = embed.table if "table" in embed else model["decoder"].embed.table
            prompt = PromptVectors(self.length, table)
            replace_module(model, path, PromptEmbedding(embed, prompt, adaptation.switch))


class PromptVectors(Added):
    """The vectors `[P, W]` of virtual tokens, as wide as the embedding table."""

    roles: ClassVar[dict[str, Role]] = {"vectors": "table"}

    def __init__(self, length: int, table: nn.Module) -> None:
        super().__init__()
        rows = mx.random.randint(0, matrix(table).shape[0], (length,))
        self.vectors = rows_of(table, rows)


class PromptEmbedding(Wrapper):
    """`(tokens [B, T], ctx) -> [B, P + T, D]`; the layout in `ctx` gets the virtual tokens too.

    In decoding steps it embeds the tokens alone: the engine reads the virtual ones first.
    """

    base: TokenEmbedding

    def __init__(self, base: TokenEmbedding, prompt: PromptVectors, switch: Switch) -> None:
        super().__init__()
        self.base, self.prompt, self.switch = base, prompt, switch

    @property
    def table(self) -> nn.Embedding:
        """The embedding table."""
        return self.base.table

    def soft_prompt(self) -> mx.array | None:
        """The vectors `[P, W]`; None while adapters are off."""
        return self.prompt.vectors if self.switch.on else None

    def __call__(
        self, tokens: mx.array, ctx: Context, table: nn.Embedding | None = None
    ) -> mx.array:
        if not self.switch.on or ctx.cursor.stepping:
            return self.base(tokens, ctx, table)
        vectors = self.prompt.vectors
        virtual = mx.full((tokens.shape[0], len(vectors)), -1, dtype=tokens.dtype)
        ctx.layout = lengthened(ctx.layout, vectors, *tokens.shape)
        return self.base(mx.concatenate([virtual, tokens], axis=1), ctx, table)

    def merged(self) -> nn.Module:
        raise RecipeError(
            "A soft prompt is no function of the model's weights, so it can't be merged into them."
        )


def lengthened(layout: Layout, vectors: mx.array, batch: int, length: int) -> Layout:
    """The layout of rows `[B, T]` behind virtual tokens with `vectors [P, W]`.

    Raises:
        RecipeError: rows hold several documents, of which the first alone would see them.
    """
    if layout.segments is not None:
        raise RecipeError(
            "adapt.kind = 'prompt' stands before a row, and data.mask_documents keeps the later "
            "documents of a row from seeing it: set it to false, or take a batch kind with a "
            "document per row."
        )
    n = len(vectors)

    def ahead(array: mx.array | None, value: int) -> mx.array | None:
        if array is None:
            return None
        front = mx.full((batch, n), value, dtype=array.dtype)
        return mx.concatenate([front, mx.broadcast_to(array, (batch, length))], axis=1)

    positions = layout.positions
    if positions is not None:
        index = mx.broadcast_to(mx.arange(n, dtype=positions.dtype), (batch, n))
        positions = mx.concatenate([index, positions + n], axis=1)
    virtual = mx.broadcast_to(vectors, (batch, *vectors.shape))
    text_vectors = layout.vectors
    if text_vectors is None:
        text_vectors = mx.zeros((batch, length, vectors.shape[1]), vectors.dtype)
    return replace(
        layout,
        positions=positions,
        valid=ahead(layout.valid, 1),
        prefix=None if layout.prefix is None else layout.prefix + n,
        types=ahead(layout.types, 0),
        global_tokens=ahead(layout.global_tokens, 0),
        ends=None if layout.ends is None else layout.ends + n,
        vectors=mx.concatenate([virtual, text_vectors.astype(virtual.dtype)], axis=1),
    )
