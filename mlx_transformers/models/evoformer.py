"""The Evoformer: an alignment of sequences and the pairs of their residues inform each other."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field, model_validator

from ..core.context import Context
from ..core.footprint import ActivationShape
from ..core.recompute import recompute
from ..core.task import Task
from ..layers.evoformer.block import EvoformerBlock
from ..layers.evoformer.embedding import AlignmentEmbedding
from ..layers.evoformer.sizes import EvoformerCost, EvoformerSizes
from ..layers.heads import vocabulary_head
from ..layers.kinds import HeadKind, InitKind, NormKind, PoolKind
from ..layers.pair_pools import Distogram, as_alignment
from ..layers.parameter import Place
from ..ops.unembedding import Unembedding
from ..recipe.slot import Slot
from .model import Arrays, Model, ModelKind, TowerSpec

PAIRS = "pairs"
"""The name of the vectors of pairs in `ctx.earlier`."""


class Evoformer(ModelKind):
    """The trunk of AlphaFold 2: L blocks over an alignment and the pairs of its residues.

    Jumper et al. 2021, supplement, algorithms 3 to 15. A row of tokens is an alignment of S
    sequences of `length` residues, one after the other, the target first. `head` predicts masked
    letters, `pool` the class of every pair. Templates, extra sequences, recycling and the structure
    module aren't built.
    """

    kind: Literal["evoformer"] = "evoformer"
    tasks: ClassVar[frozenset[Task]] = frozenset({"encode"})
    length: int = Field(ge=1)
    """Residues N of a sequence."""
    max_seq_len: int = Field(ge=1)
    """The most tokens S · N of an alignment."""
    n_layers: int = Field(ge=1)
    """Blocks L."""
    dim: int = Field(ge=1)
    """Width D of the alignment."""
    n_heads: int = Field(8, ge=1)
    """Heads of row and column attention."""
    head_dim: int = Field(32, ge=1)
    """Width of one of them."""
    pair_dim: int = Field(ge=1)
    """Width E of the pairs."""
    pair_heads: int = Field(4, ge=1)
    """Heads of triangle attention."""
    pair_head_dim: int = Field(32, ge=1)
    """Width of one of them."""
    triangle_dim: int = Field(128, ge=1)
    """Width of the triangle multiplications."""
    outer_dim: int = Field(32, ge=1)
    """Width of the vectors whose outer products inform the pairs."""
    factor: int = Field(4, ge=1)
    """Inner width of the transitions over their own."""
    outer_first: bool = False
    """Whether the alignment informs the pairs before it is updated (AlphaFold-Multimer)."""
    distance: int = Field(32, ge=1)
    """Residues along the chain beyond which all distances share one position embedding."""
    dropout: float = Field(0.15, ge=0, lt=1)
    """Dropout of row attention, one mask for all sequences."""
    pair_dropout: float = Field(0.25, ge=0, lt=1)
    """Dropout of the triangle updates, one mask for a row or a column of pairs."""
    norm: Annotated[NormKind, Slot("norm")]
    """Normalisation of the alignment after the last block."""
    head: Annotated[HeadKind, Slot("head")] | None = None
    """The head over every letter; none means there is none."""
    pool: Annotated[PoolKind, Slot("pool")] | None = None
    """The classes of pairs; none means there are none."""
    init: Annotated[InitKind, Slot("init")]
    """How weights start."""

    @model_validator(mode="after")
    def _alignments_are_whole(self) -> "Evoformer":
        if self.max_seq_len % self.length:
            raise ValueError(
                f"max_seq_len = {self.max_seq_len} is no multiple of length = {self.length}, the "
                "residues of a sequence."
            )
        if self.pool is not None and not isinstance(self.pool, Distogram):
            raise ValueError(
                f"pool.kind = '{self.pool.kind}' reads a sequence, and this model gives pairs: set "
                "pool.kind = 'distogram'."
            )
        return self

    @property
    def sizes(self) -> EvoformerSizes:
        """Sizes of a block."""
        names = EvoformerSizes.__dataclass_fields__
        return EvoformerSizes(**{name: value for name, value in self if name in names})

    def towers(self) -> list[TowerSpec]:
        cost = EvoformerCost(self.sizes, self.length)
        edges = (PairEdge(self.pair_dim, self.length), self.norm)
        return [TowerSpec("", self.dim, [cost] * self.n_layers, edges)]

    def context(self) -> int:
        return self.max_seq_len

    def build(self, vocab_size: int) -> "EvoformerModel":
        model = EvoformerModel(self, self.vocab_size or vocab_size)
        self.init.apply(model, self.n_layers)
        return model


@dataclass(frozen=True)
class PairEdge:
    """The memory of the pairs beside that of the blocks: their sum over both orders."""

    pair_dim: int
    length: int

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Bytes per token that the forward saves for its backward."""
        return self.pair_dim * self.length**2 / at.length * at.itemsize


class EvoformerStack(nn.Module):
    """Blocks one after the other: `(m, z, mask of m, ctx) -> (m, z)`.

    Attributes:
        blocks: the blocks.
        recomputed: indices of checkpointed blocks, recomputed in the backward pass.
    """

    places: ClassVar[dict[str, Place]] = {"blocks": "layers"}

    def __init__(self, config: Evoformer) -> None:
        super().__init__()
        self.length = config.length
        self.blocks = [EvoformerBlock(config.sizes) for _ in range(config.n_layers)]
        self.recomputed: frozenset[int] = frozenset()

    def layers(self) -> Sequence[EvoformerBlock]:
        """The blocks, in the order that they run."""
        return self.blocks

    def flops(self, length: int) -> float:
        """Operations of matrix products per token of a row of `length` tokens, beyond two for each
        weight."""
        return sum(EvoformerCost(block.sizes, self.length).flops(length) for block in self.blocks)

    def __call__(
        self, m: mx.array, z: mx.array, mask: mx.array | None, ctx: Context
    ) -> tuple[mx.array, mx.array]:
        pair_mask = None if mask is None else mask[:, 0, :, None] * mask[:, 0, None, :]
        for i, block in enumerate(self.blocks):

            def run(
                m: mx.array, z: mx.array, key: mx.array | None, block: EvoformerBlock = block
            ) -> tuple[mx.array, mx.array]:
                return block(m, z, mask, pair_mask, replace(ctx, key=key))

            key = ctx.split_key()
            key = None if key is None else mx.stop_gradient(key)
            m, z = (recompute([block], run) if i in self.recomputed else run)(m, z, key)
            ctx.collected.add_layer(m.flatten(1, 2))
        return m, z


class EvoformerModel(Model):
    """`(tokens [B, S * N], ctx) -> ` the head's logits `[B, S * N, V]`, or the vectors of the
    alignment `[B, S * N, D]` where there is no head."""

    tasks = Evoformer.tasks
    places: ClassVar[dict[str, Place]] = {"embed": "below"}

    def __init__(self, config: Evoformer, vocab_size: int) -> None:
        super().__init__()
        self.length, self.max_seq_len = config.length, config.max_seq_len
        self.vocab_size = vocab_size
        sizes = (config.dim, config.pair_dim, config.distance)
        self.embed = AlignmentEmbedding(vocab_size, *sizes)
        self.stack = EvoformerStack(config)
        self.norm = config.norm.build(config.dim)
        if config.head is not None:
            self.head = vocabulary_head(config.head, vocab_size, config.dim)
        if config.pool is not None:
            self.pool = config.pool.build(config.pair_dim)

    def stacks(self) -> list[EvoformerStack]:
        return [self.stack]

    def embedded(self, batch: Arrays, ctx: Context) -> mx.array:
        """The vectors of the alignment; those of the pairs `[B, N, N, E]` go to `ctx.earlier`."""
        m, ctx.earlier[PAIRS] = self.embed(as_alignment(batch["tokens"], self.length))
        return m.flatten(1, 2)

    def features(self, x: mx.array, ctx: Context) -> mx.array:
        valid = ctx.layout.valid
        mask = None if valid is None else as_alignment(valid, self.length).astype(x.dtype)
        m = as_alignment(x, self.length)
        m, ctx.earlier[PAIRS] = self.stack(m, ctx.earlier[PAIRS], mask, ctx)
        return self.norm(m.flatten(1, 2))

    def transform(self, h: mx.array) -> mx.array:
        return self.head.transform(h)

    def unembedding(self) -> Unembedding | None:
        return self.head.unembedding(self.embed.table) if "head" in self else None

    def pooled(self, x: mx.array, ctx: Context) -> mx.array:
        """The logits of every pair `[B, N, N, n_classes]`, once `features` has run."""
        return self.pool(ctx.earlier[PAIRS].flatten(1, 2), ctx)

    def __call__(self, tokens: mx.array, ctx: Context | None = None) -> mx.array:
        ctx = ctx or Context()
        x = self.features(self.embedded({"tokens": tokens}, ctx), ctx)
        return self.head(x, self.embed.table) if "head" in self else x
