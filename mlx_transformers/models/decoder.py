"""The decoder: a stack that reads tokens and predicts the next one."""

from typing import Annotated, Any, Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field, model_validator

from ..core.context import Context
from ..core.errors import unknown
from ..layers.block import Block
from ..layers.heads import Unembedding
from ..recipe.config import Kind
from ..recipe.slot import Slot
from .stack import Stack, tile


class Decoder(Kind):
    """A decoder-only language model: embed, L blocks, norm, head.

    Liu et al. 2018, section 4.2.3; Radford et al. 2018 (GPT-1). Its members differ in what fills
    the slots.
    """

    kind: Literal["decoder"] = "decoder"
    dim: int = Field(ge=1)
    """Width D of the residual stream."""
    n_layers: int = Field(ge=1)
    """Blocks L."""
    max_seq_len: int = Field(ge=1)
    """The longest sequence the model is made for, in tokens: its context."""
    vocab_size: int | None = Field(None, ge=1)
    """Vocabulary V; none means the tokenizer's own."""
    embed: Annotated[Kind, Slot("embed")]
    """How tokens become vectors."""
    position: Annotated[Kind, Slot("position")]
    """How the model knows where a token stands."""
    block: Block
    """The layer that is repeated."""
    blocks: dict[str, Block] = Field(default_factory=dict)
    """Named variants, each a diff against `block`, for `pattern`."""
    pattern: list[str] | None = None
    """Names from `blocks`, repeated until there are n_layers; none means `block` everywhere."""
    norm: Annotated[Kind, Slot("norm")]
    """The normalisation after the last block."""
    head: Annotated[Kind, Slot("head")]
    """How vectors become logits."""
    init: Annotated[Kind, Slot("init")]
    """How weights start."""

    @model_validator(mode="after")
    def _pattern_names_blocks(self) -> "Decoder":
        for name in self.pattern or []:
            if name not in self.blocks:
                raise ValueError(unknown("name in model.pattern", name, self.blocks))
        if self.blocks and not self.pattern:
            raise ValueError("model.blocks is given without model.pattern, so it has no effect.")
        used = set((self.pattern or [])[: self.n_layers])
        if idle := sorted(set(self.blocks) - used):
            raise ValueError(
                f"model.blocks.{idle[0]} is the block of none of the {self.n_layers} layers, so it "
                "has no effect. Name it in model.pattern, or unset it."
            )
        return self

    def layers(self) -> list[Block]:
        """The block of each layer."""
        return tile(self.pattern, self.block, self.blocks, self.n_layers)

    def build(self, vocab_size: int) -> "DecoderModel":
        """The module, initialised from MLX's global random state."""
        model = DecoderModel(self, self.vocab_size or vocab_size)
        self.init.apply(model, self.n_layers)  # type: ignore[attr-defined]
        return model


class DecoderModel(nn.Module):
    """`(tokens [B, T], ctx) -> logits [B, T, V]`."""

    def __init__(self, config: Decoder, vocab_size: int) -> None:
        super().__init__()
        self.max_seq_len = config.max_seq_len
        self.vocab_size = vocab_size
        self.embed = config.embed.build(vocab_size, config.dim)
        self.position = config.position.build(config.dim, config.max_seq_len)
        self.stack = Stack(config.layers(), config.dim)
        self.norm = config.norm.build(config.dim)
        self.head = config.head.build(vocab_size, config.dim)

    def hidden(self, tokens: mx.array, ctx: Context) -> mx.array:
        """The normalised output of the last block, `[B, T, D]`."""
        ctx.position = self.position
        return self.norm(self.stack(self.embed(tokens, ctx), ctx))

    def unembedding(self) -> Unembedding:
        """The map from `hidden` to logits, for losses that never hold all logits."""
        return self.head.unembedding(self.embed)

    def __call__(self, tokens: mx.array, ctx: Context | None = None) -> mx.array:
        return self.head(self.hidden(tokens, ctx or Context()), self.embed)

    def init_state(self, batch: int, length: int, dtype: mx.Dtype = mx.float32) -> dict[str, Any]:
        """An empty decode state for `batch` rows of at most `length` tokens.

        Raises:
            RunError: the position kind has not as many positions.
        """
        self.position.admit(length)
        return {"offset": mx.array(0), "blocks": self.stack.init_state(batch, length, dtype)}

    def step(self, tokens: mx.array, state: dict[str, Any]) -> tuple[mx.array, dict[str, Any]]:
        """Continue every row by `tokens [B, T]`: logits `[B, T, V]` and the new state.

        The state is a tree of arrays, so a step can be compiled; a prompt is one step.
        """
        ctx = Context(offset=state["offset"], position=self.position)
        x, blocks = self.stack.step(self.embed(tokens, ctx), state["blocks"], ctx)
        logits = self.head(self.norm(x), self.embed)
        return logits, {"offset": state["offset"] + tokens.shape[1], "blocks": blocks}
