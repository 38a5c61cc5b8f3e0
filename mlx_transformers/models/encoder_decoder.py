"""Encoder and decoder: one stack reads the source, the other writes the target beside it."""

from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field, model_validator

from ..core.context import Collected, Context, Cursor
from ..layers.block import Block
from ..layers.heads import Unembedding
from ..recipe.config import Kind
from ..recipe.slot import Slot
from .stack import Stack, Tower, TowerModule


class EncoderDecoder(Kind):
    """A source is encoded, a target is decoded with attention to it.

    Vaswani et al. 2017, section 3.1; T5 (Raffel et al. 2020), BART (Lewis et al. 2019). Blocks of
    the decoder have a `cross` mixer.
    """

    kind: Literal["encoder_decoder"] = "encoder_decoder"
    does: ClassVar[str] = "answers"
    """What it does with a text; an objective trains models that do what its `trains` says."""
    dim: int = Field(ge=1)
    """Width D of both residual streams."""
    max_seq_len: int = Field(ge=1)
    """The longest source or target the model is made for, in tokens."""
    vocab_size: int | None = Field(None, ge=1)
    """Vocabulary V of both sides; none means the tokenizer's own."""
    encoder: Tower
    """What reads the source."""
    decoder: Tower
    """What writes the target."""
    shared: bool = True
    """Whether both sides read one embedding table (Vaswani et al. 2017, section 3.4)."""
    head: Annotated[Kind, Slot("head")]
    """How vectors become logits."""
    init: Annotated[Kind, Slot("init")]
    """How weights start."""

    @model_validator(mode="after")
    def _decoder_reads(self) -> "EncoderDecoder":
        if any(block.cross is None for block in self.decoder.layers()):
            raise ValueError("decoder.block has no cross mixer, so it would not read the source.")
        if any(block.cross is not None for block in self.encoder.layers()):
            raise ValueError("encoder.block has a cross mixer, but nothing to read: unset it.")
        return self

    @property
    def n_layers(self) -> int:
        """Blocks of both stacks."""
        return self.encoder.n_layers + self.decoder.n_layers

    def layers(self) -> list[Block]:
        """The block of each layer, those of the encoder first."""
        return self.encoder.layers() + self.decoder.layers()

    def build(self, vocab_size: int) -> "EncoderDecoderModel":
        """The module, initialised from MLX's global random state."""
        model = EncoderDecoderModel(self, self.vocab_size or vocab_size)
        self.init.apply(model, self.decoder.n_layers)  # type: ignore[attr-defined]
        return model


class EncoderDecoderModel(nn.Module):
    """`(source [B, S], tokens [B, T], ctx) -> logits [B, T, V]`."""

    def __init__(self, config: EncoderDecoder, vocab_size: int) -> None:
        super().__init__()
        self.max_seq_len = config.max_seq_len
        self.vocab_size = vocab_size
        sizes = (vocab_size, config.dim, config.max_seq_len)
        self.encoder = TowerModule(config.encoder, *sizes, table=not config.shared)
        self.decoder = TowerModule(config.decoder, *sizes)
        self.head = config.head.build(vocab_size, config.dim)

    def stacks(self) -> list[Stack]:
        """Every stack of blocks, in the order that they run."""
        return [self.encoder.stack, self.decoder.stack]

    def encode(self, source: mx.array, ctx: Context) -> mx.array:
        """What the decoder reads, `[B, S, D]`; `ctx.memory_valid [B, S]` marks the padding."""
        layout = replace(ctx.layout, causal=False, valid=ctx.memory_valid)
        own = replace(ctx, layout=layout, key=ctx.split_key())
        shared = "table" not in self.encoder.embed
        return self.encoder.read(source, own, self.decoder.embed.table if shared else None)

    def hidden(self, tokens: mx.array, ctx: Context) -> mx.array:
        """What meets the vocabulary, `[B, T, width]`, where `ctx.memory` is what `encode` made."""
        return self.head.transform(self.decoder.read(tokens, ctx))

    def unembedding(self) -> Unembedding:
        """The map from `hidden` to logits, for losses that never hold all logits."""
        return self.head.unembedding(self.decoder.embed.table)

    def __call__(self, source: mx.array, tokens: mx.array, ctx: Context | None = None) -> mx.array:
        ctx = ctx or Context()
        ctx.memory = self.encode(source, ctx)
        return self.decode(tokens, ctx)

    def decode(self, tokens: mx.array, ctx: Context) -> mx.array:
        """Logits `[B, T, V]` of a target, where `ctx.memory` is what `encode` made."""
        return self.head(self.decoder.read(tokens, ctx), self.decoder.embed.table)

    def alignment(
        self, source: mx.array, tokens: mx.array, valid: mx.array | None = None
    ) -> mx.array:
        """How much each target token looked at each source token, `[B, T, S]`: the mean over the
        heads of the last block's attention across (Vaswani et al. 2017, section 3.2.3)."""
        looks: list[mx.array] = []
        ctx = Context(collected=Collected(alignments=looks), memory_valid=valid)
        ctx.memory = self.encode(source, ctx)
        self.decoder.read(tokens, ctx)
        return looks[-1].mean(axis=1)

    def init_state(
        self,
        batch: int,
        length: int,
        dtype: mx.Dtype = mx.float32,
        *,
        memory: mx.array,
        memory_valid: mx.array | None = None,
    ) -> dict[str, Any]:
        """A decode state for targets of at most `length` tokens, beside `memory [B, S, D]`.

        Raises:
            RunError: the position kind has not as many positions.
        """
        self.decoder.position.admit(length)
        blocks = self.decoder.stack.init_state(batch, length, dtype, memory)
        state = {"offset": mx.array(0), "blocks": blocks}
        return state if memory_valid is None else state | {"memory_valid": memory_valid}

    def step(self, tokens: mx.array, state: dict[str, Any]) -> tuple[mx.array, dict[str, Any]]:
        """Continue every target by `tokens [B, T]`: logits `[B, T, V]` and the new state."""
        ctx = Context(cursor=Cursor(offset=state["offset"]), memory_valid=state.get("memory_valid"))
        h, blocks = self.decoder.go_on(tokens, state["blocks"], ctx)
        after = {"offset": state["offset"] + tokens.shape[1], "blocks": blocks}
        return self.head(h, self.decoder.embed.table), state | after
