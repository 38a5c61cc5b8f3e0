"""A pair: a generator that fills masks, and a discriminator that judges what it wrote."""

from dataclasses import replace
from typing import Any, ClassVar, Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field, model_validator

from ..core.context import Context
from ..layers.block import Block
from ..recipe.config import Kind
from .encoder import Encoder
from .stack import Stack


class Pair(Kind):
    """ELECTRA while it is pretrained: Clark et al. 2020, section 2 and figure 2. Afterwards the
    discriminator is the model.

    The generator is a masked language model, 1/4 to 1/2 as wide (section 3.2); the discriminator's
    head says one number for every token.
    """

    kind: Literal["pair"] = "pair"
    does: ClassVar[str] = "judges"
    """What it does with a text; an objective trains models that do what its `trains` says."""
    generator: Encoder
    """What fills masks; its head is over the vocabulary."""
    discriminator: Encoder
    """What judges every token; its head has one class."""
    vocab_size: int | None = Field(None, ge=1)
    """Vocabulary V of both; none means the tokenizer's own."""
    shared: bool = True
    """Whether both read one table of tokens (section 3.2), the generator's; their embeddings then
    have one width."""

    @model_validator(mode="after")
    def _roles(self) -> "Pair":
        if not hasattr(self.generator.head, "tied"):
            raise ValueError("generator.head must be over the vocabulary: kind 'mlm' or 'lm'.")
        if getattr(self.discriminator.head, "n_classes", None) != 1:
            raise ValueError("discriminator.head must be of kind 'tags', with n_classes = 1.")
        for name, one in (("generator", self.generator), ("discriminator", self.discriminator)):
            if one.vocab_size is not None:
                raise ValueError(f"{name}.vocab_size: give model.vocab_size, which is for both.")
        widths = [getattr(e.embed, "width", None) or e.dim for e in self._both()]
        if self.shared and widths[0] != widths[1]:
            raise ValueError(
                f"The embeddings are {widths[0]} and {widths[1]} wide, so they can't be one table: "
                "give the generator's embed.width, or set shared = false."
            )
        return self

    def _both(self) -> list[Encoder]:
        return [self.generator, self.discriminator]

    @property
    def dim(self) -> int:
        """The larger width D of both."""
        return max(each.dim for each in self._both())

    @property
    def max_seq_len(self) -> int:
        """The longest sequence that both are made for."""
        return min(each.max_seq_len for each in self._both())

    @property
    def n_layers(self) -> int:
        """Blocks of both."""
        return len(self.layers())

    def layers(self) -> list[Block]:
        """The block of each layer, the generator's first."""
        return [block for each in self._both() for block in each.layers()]

    def build(self, vocab_size: int) -> "PairModel":
        """The module, initialised from MLX's global random state."""
        return PairModel(self, self.vocab_size or vocab_size)


class PairModel(nn.Module):
    """`(tokens [B, T], ctx) -> [B, T, 1]`: how much each token looks replaced, as a logit."""

    def __init__(self, config: Pair, vocab_size: int) -> None:
        super().__init__()
        self.vocab_size, self.max_seq_len = vocab_size, config.max_seq_len
        self.generator = config.generator.build(vocab_size)
        self.discriminator = config.discriminator.build(vocab_size)
        self.shared = config.shared
        if config.shared:
            self.discriminator.embed.pop("table")

    def stacks(self) -> list[Stack]:
        """Every stack of blocks, in the order that they run."""
        return [*self.generator.stacks(), *self.discriminator.stacks()]

    def judge(self, tokens: mx.array, ctx: Context) -> mx.array:
        """The discriminator's answer, `[B, T, 1]`."""
        ctx.layout = replace(ctx.layout, causal=False)
        table: Any = self.generator.embed.table if self.shared else None
        return self.discriminator.head(self.discriminator.read(tokens, ctx, table), None)

    def __call__(self, tokens: mx.array, ctx: Context | None = None) -> mx.array:
        return self.judge(tokens, ctx or Context())
