"""Generator and discriminator of replaced token detection: ELECTRA while it is pretrained."""

from dataclasses import replace
from typing import ClassVar, Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import model_validator

from ..core.context import Context
from ..core.task import Task
from ..layers.embed import TokenEmbed
from ..layers.heads import TagHead, VocabularyHead
from .encoder import Encoder
from .model import Arrays, Model, ModelKind, TowerSpec
from .stack import Stack


class ReplacedTokenPair(ModelKind):
    """ELECTRA while it is pretrained: Clark et al. 2020, section 2 and figure 2. Afterwards the
    discriminator is the model.

    The generator is a masked language model, 1/4 to 1/2 as wide (section 3.2); the discriminator's
    head gives one logit per token.
    """

    kind: Literal["pair"] = "pair"
    tasks: ClassVar[frozenset[Task]] = frozenset({"detect_replaced"})
    generator: Encoder
    """Fills the masks; its head is over the vocabulary."""
    discriminator: Encoder
    """Judges every token, real or replaced; its head has one class."""
    shared: bool = True
    """Whether both read one embedding table (section 3.2), the generator's; their embeddings then
    have one width."""

    @model_validator(mode="after")
    def _heads_suit_their_parts(self) -> "ReplacedTokenPair":
        if not isinstance(self.generator.head, VocabularyHead):
            raise ValueError("generator.head must be over the vocabulary: kind 'mlm' or 'lm'.")
        head = self.discriminator.head
        if not isinstance(head, TagHead) or head.n_classes != 1:
            raise ValueError("discriminator.head must be of kind 'tags', with n_classes = 1.")
        for name, part in (("generator", self.generator), ("discriminator", self.discriminator)):
            if part.vocab_size is not None:
                raise ValueError(f"{name}.vocab_size: give model.vocab_size, which is for both.")
        widths = [_embedding_width(part) for part in (self.generator, self.discriminator)]
        if self.shared and widths[0] != widths[1]:
            raise ValueError(
                f"The embeddings are {widths[0]} and {widths[1]} wide, so they can't be one table: "
                "give the generator's embed.width, or set shared = false."
            )
        return self

    def towers(self) -> list[TowerSpec]:
        return [
            self.generator.spec("generator", self.generator.dim),
            self.discriminator.spec("discriminator", self.discriminator.dim),
        ]

    def context(self) -> int:
        return min(self.generator.max_seq_len, self.discriminator.max_seq_len)

    def without_helpers(
        self, weights: dict[str, mx.array]
    ) -> tuple[ModelKind, dict[str, mx.array]]:
        """The discriminator, with the embedding that both halves share."""
        half = {
            name.removeprefix("discriminator."): array
            for name, array in weights.items()
            if name.startswith("discriminator.")
        }
        if self.shared:
            half["embed.table.weight"] = weights["generator.embed.table.weight"]
        return self.discriminator, half

    def build(self, vocab_size: int) -> "ReplacedTokenPairModel":
        return ReplacedTokenPairModel(self, self.vocab_size or vocab_size)


def _embedding_width(encoder: Encoder) -> int:
    embed = encoder.embed
    return (isinstance(embed, TokenEmbed) and embed.width) or encoder.dim


class ReplacedTokenPairModel(Model):
    """`(tokens [B, T], ctx) -> [B, T, 1]`: the logit of each token being replaced."""

    tasks = ReplacedTokenPair.tasks

    def __init__(self, config: ReplacedTokenPair, vocab_size: int) -> None:
        super().__init__()
        self.vocab_size, self.max_seq_len = vocab_size, config.context()
        self.generator = config.generator.build(vocab_size)
        self.discriminator = config.discriminator.build(vocab_size)
        self.shared = config.shared
        if config.shared:
            embed = self.discriminator.embed
            assert isinstance(embed, nn.Module), "an embedding is a module"
            embed.pop("table")

    def stacks(self) -> list[Stack]:
        return [*self.generator.stacks(), *self.discriminator.stacks()]

    def embedded(self, batch: Arrays, ctx: Context) -> mx.array:
        """The discriminator's input."""
        ctx.layout = replace(ctx.layout, causal=False)
        table = self.generator.embed.table if self.shared else None
        return self.discriminator.embed_tokens(batch["tokens"], ctx, table)

    def features(self, x: mx.array, ctx: Context) -> mx.array:
        return self.discriminator.forward(x, ctx)

    def __call__(self, tokens: mx.array, ctx: Context | None = None) -> mx.array:
        ctx = ctx or Context()
        x = self.features(self.embedded({"tokens": tokens}, ctx), ctx)
        return self.discriminator.head(x, None)
