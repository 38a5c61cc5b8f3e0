"""The encoder: a stack with bidirectional attention."""

from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import mlx.core as mx
from pydantic import Field, model_validator

from ..core.context import Context
from ..core.task import Task
from ..layers.heads import LmHeadModule, refuse_tied
from ..layers.kinds import HeadKind, InitKind, PoolKind
from ..ops.unembedding import Unembedding
from ..recipe.slot import Slot
from .model import Arrays, Model, ModelKind, TowerSpec, last
from .stack import Stack, TowerModule
from .tower import Tower


class Encoder(Tower, ModelKind):
    """An encoder: embed, L blocks with bidirectional attention, norm, optional head and pool.

    Devlin et al. 2018 (BERT), section 3. `head` gives logits for every token (masked
    words, tags), `pool` one output for the whole sequence (its class, its vector); BERT's
    pretraining has both. Without either the output is the vectors of the tokens.
    """

    kind: Literal["encoder"] = "encoder"
    tasks: ClassVar[frozenset[Task]] = frozenset({"encode"})
    dim: int = Field(ge=1)
    """Width D of the residual stream."""
    max_seq_len: int = Field(ge=1)
    """The longest sequence the model is made for, in tokens."""
    head: Annotated[HeadKind, Slot("head")] | None = None
    """The head over every token; none means there is none."""
    pool: Annotated[PoolKind, Slot("pool")] | None = None
    """The pooled head over the sequence; none means there is none."""
    init: Annotated[InitKind, Slot("init")]
    """How weights start."""
    causal: bool = False
    """Whether a token sees only itself and its past (CLIP's text tower)."""
    end_token: int | Literal["largest"] | None = None
    """The token whose first position a pool with `reads = "end"` reads: an id, or the largest id of
    each row (CLIP's older checkpoints); none means there is no such token."""

    @model_validator(mode="after")
    def _fits_both_streams(self) -> "Encoder":
        if self.head is not None:
            refuse_tied(self.head, self.reversible)
        return self

    def towers(self) -> list[TowerSpec]:
        return [self.spec("", self.dim)]

    def context(self) -> int:
        return self.max_seq_len

    def build(self, vocab_size: int) -> "EncoderModel":
        model = EncoderModel(self, self.vocab_size or vocab_size)
        self.init.apply(model, self.n_layers)
        return model


class EncoderModel(TowerModule, Model):
    """`(tokens [B, T], ctx) -> ` the head's logits `[B, T, ...]`; without a head the pool's, and
    without either the vectors `[B, T, D]`."""

    tasks = Encoder.tasks

    def __init__(self, config: Encoder, vocab_size: int) -> None:
        super().__init__(config, vocab_size, config.dim, config.max_seq_len)
        self.max_seq_len = config.max_seq_len
        self.vocab_size = vocab_size
        self.causal, self.end_token = config.causal, config.end_token
        if config.head is not None:
            self.head = config.head.build(vocab_size, config.width(config.dim))
        if config.pool is not None:
            self.pool = config.pool.build(config.width(config.dim))

    def stacks(self) -> list[Stack]:
        return [self.stack]

    def embedded(self, batch: Arrays, ctx: Context) -> mx.array:
        ends = None if self.end_token is None else self._ends(batch["tokens"])
        ctx.layout = replace(ctx.layout, causal=self.causal, ends=ends)
        return self.embed_tokens(batch["tokens"], ctx)

    def _ends(self, tokens: mx.array) -> mx.array:
        """The first place of the end token in each row, `[B]`; 0 where there is none."""
        sought = tokens if self.end_token == "largest" else tokens == self.end_token
        return mx.argmax(sought, axis=1)

    def features(self, x: mx.array, ctx: Context) -> mx.array:
        return self.forward(x, ctx)

    def transform(self, h: mx.array) -> mx.array:
        assert isinstance(self.head, LmHeadModule), "only a head over the vocabulary transforms"
        return self.head.transform(h)

    def exit(self, h: mx.array) -> mx.array | None:
        return None if self.unembedding() is None else self.transform(self.norm(h))

    def unembedding(self) -> Unembedding | None:
        if "head" not in self or not isinstance(self.head, LmHeadModule):
            return None
        return self.head.unembedding(self.embed.table)

    def pooled(self, x: mx.array, ctx: Context) -> mx.array:
        """The pool's output `[B, ...]` for `x` of `features`."""
        return self.pool(x, ctx)

    def __call__(self, tokens: mx.array, ctx: Context | None = None) -> mx.array:
        ctx = ctx or Context()
        x = self.features(self.embedded({"tokens": tokens}, ctx), ctx)
        if "head" in self:
            return self.head(last(x, tokens.shape[1]), self.embed.table)
        return self.pool(x, ctx) if "pool" in self else x
