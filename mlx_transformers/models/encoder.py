"""The encoder: a stack that sees a whole sequence at once."""

from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import mlx.core as mx
from pydantic import Field

from ..core.context import Context
from ..layers.heads import Unembedding
from ..recipe.config import Kind
from ..recipe.slot import Slot
from .stack import Stack, Tower, TowerModule


class Encoder(Tower, Kind):
    """An encoder: embed, L blocks in which every token sees every other, norm, and what is asked.

    Devlin et al. 2018 (BERT), section 3. `head` answers for every token (masked words, tags),
    `pool` for the whole sequence (its class, its vector); BERT's pretraining has both. Without
    either its answer is the vectors themselves.
    """

    kind: Literal["encoder"] = "encoder"
    does: ClassVar[str] = "reads"
    """What it does with a text; an objective trains models that do what its `trains` says."""
    dim: int = Field(ge=1)
    """Width D of the residual stream."""
    max_seq_len: int = Field(ge=1)
    """The longest sequence the model is made for, in tokens."""
    vocab_size: int | None = Field(None, ge=1)
    """Vocabulary V; none means the tokenizer's own."""
    head: Annotated[Kind, Slot("head")] | None = None
    """What is said of every token; none says nothing."""
    pool: Annotated[Kind, Slot("pool")] | None = None
    """What is said of the sequence; none says nothing."""
    init: Annotated[Kind, Slot("init")]
    """How weights start."""

    def build(self, vocab_size: int) -> "EncoderModel":
        """The module, initialised from MLX's global random state."""
        model = EncoderModel(self, self.vocab_size or vocab_size)
        self.init.apply(model, self.n_layers)  # type: ignore[attr-defined]
        return model


class EncoderModel(TowerModule):
    """`(tokens [B, T], ctx) -> ` the head's answer `[B, T, ...]`; without one the pool's, or x."""

    def __init__(self, config: Encoder, vocab_size: int) -> None:
        super().__init__(config, vocab_size, config.dim, config.max_seq_len)
        self.max_seq_len = config.max_seq_len
        self.vocab_size = vocab_size
        if config.head is not None:
            self.head = config.head.build(vocab_size, config.dim)
        if config.pool is not None:
            self.pool = config.pool.build(config.dim)

    def stacks(self) -> list[Stack]:
        """Every stack of blocks, in the order that they run."""
        return [self.stack]

    def encode(self, tokens: mx.array, ctx: Context) -> mx.array:
        """The normalised output of the last block, `[B, T, D]`; `layout.valid` marks padding."""
        ctx.layout = replace(ctx.layout, causal=False)
        return self.read(tokens, ctx)

    def hidden(self, tokens: mx.array, ctx: Context) -> mx.array:
        """What meets the vocabulary, `[B, T, width]`."""
        return self.head.transform(self.encode(tokens, ctx))

    def unembedding(self) -> Unembedding:
        """The map from `hidden` to logits, for losses that never hold all logits."""
        return self.head.unembedding(self.embed.table)

    def pooled(self, x: mx.array, ctx: Context) -> mx.array:
        """The pool's answer `[B, ...]` to what `encode` returned."""
        return self.pool(x, ctx)

    def __call__(self, tokens: mx.array, ctx: Context | None = None) -> mx.array:
        ctx = ctx or Context()
        x = self.encode(tokens, ctx)
        if "head" in self:
            return self.head(x, self.embed.table)
        return self.pool(x, ctx) if "pool" in self else x
