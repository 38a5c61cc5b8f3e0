"""Encoder and decoder: one stack reads the source, the other writes the target beside it."""

from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import mlx.core as mx
from pydantic import Field, model_validator

from ..core.context import Collected, Context, Cursor, Recording
from ..core.task import Task
from ..layers.heads import vocabulary_head
from ..layers.kinds import HeadKind, InitKind, State
from ..ops.unembedding import Unembedding
from ..recipe.slot import Slot
from .model import Aligning, Arrays, ModelKind, TowerSpec
from .stack import Stack, TowerModule
from .tower import Tower


class EncoderDecoder(ModelKind):
    """A source is encoded, a target is decoded with attention to it.

    Vaswani et al. 2017, section 3.1; T5 (Raffel et al. 2020), BART (Lewis et al. 2019). Blocks of
    the decoder have a `cross` mixer.
    """

    kind: Literal["encoder_decoder"] = "encoder_decoder"
    tasks: ClassVar[frozenset[Task]] = frozenset({"seq2seq"})
    dim: int = Field(ge=1)
    """Width D of both residual streams."""
    max_seq_len: int = Field(ge=1)
    """The longest source or target the model is made for, in tokens."""
    encoder: Tower
    """The tower that reads the source."""
    decoder: Tower
    """The tower that writes the target."""
    shared: bool = True
    """Whether both sides read one embedding table (Vaswani et al. 2017, section 3.4)."""
    head: Annotated[HeadKind, Slot("head")]
    """How vectors become logits."""
    init: Annotated[InitKind, Slot("init")]
    """How weights start."""

    @model_validator(mode="after")
    def _decoder_reads(self) -> "EncoderDecoder":
        if any(block.cross is None for block in self.decoder.layers()):
            raise ValueError("decoder.block has no cross mixer, so it would not read the source.")
        if any(block.cross is not None for block in self.encoder.layers()):
            raise ValueError("encoder.block has a cross mixer, but nothing to read: unset it.")
        if self.encoder.reversible == "concatenate":
            raise ValueError(
                "encoder.reversible = 'concatenate' gives a memory twice as wide as cross "
                "attention reads: set 'mean'."
            )
        return self

    def towers(self) -> list[TowerSpec]:
        encoder = self.encoder.spec("encoder", self.dim, reads_source=True)
        return [encoder, self.decoder.spec("decoder", self.dim)]

    def context(self) -> int:
        return self.max_seq_len

    def build(self, vocab_size: int) -> "EncoderDecoderModel":
        model = EncoderDecoderModel(self, self.vocab_size or vocab_size)
        self.init.apply(model, self.decoder.n_layers)
        return model


class EncoderDecoderModel(Aligning):
    """`(source [B, S], tokens [B, T], ctx) -> logits [B, T, V]`."""

    tasks = EncoderDecoder.tasks
    source_name: ClassVar[str] = "source"
    """The array of a batch that the encoder reads."""

    def __init__(self, config: EncoderDecoder, vocab_size: int) -> None:
        super().__init__()
        self.max_seq_len = config.max_seq_len
        self.vocab_size, self.shared = vocab_size, config.shared
        sizes = (vocab_size, config.dim, config.max_seq_len)
        self.encoder = TowerModule(config.encoder, *sizes, table=not config.shared)
        self.decoder = TowerModule(config.decoder, *sizes)
        self.head = vocabulary_head(config.head, vocab_size, config.dim)

    def stacks(self) -> list[Stack]:
        return [self.encoder.stack, self.decoder.stack]

    def encode(self, source: mx.array, ctx: Context) -> mx.array:
        """The encoder's output `[B, S, D]`, the memory of the decoder; `ctx.memory_valid [B, S]`
        marks the padding."""
        layout = replace(ctx.layout, causal=False, valid=ctx.memory_valid)
        source_ctx = replace(ctx, layout=layout, key=ctx.split_key())
        table = self.decoder.embed.table if self.shared else None
        x = self.encoder.embed_tokens(source, source_ctx, table)
        ctx.memory_valid = source_ctx.layout.valid  # a soft prompt stands before the source
        return self.encoder.forward(x, source_ctx)

    def embedded(self, batch: Arrays, ctx: Context) -> mx.array:
        """The decoder's input `[B, T, D]` for `tokens`; encodes `source` into `ctx.memory`."""
        ctx.memory_valid = batch.get("source_valid")
        ctx.memory = self.encode(batch[self.source_name], ctx)
        return self.decoder.embed_tokens(batch["tokens"], ctx)

    def features(self, x: mx.array, ctx: Context) -> mx.array:
        return self.decoder.forward(x, ctx)

    def transform(self, h: mx.array) -> mx.array:
        return self.head.transform(h)

    def exit(self, h: mx.array) -> mx.array:
        return self.transform(self.decoder.norm(h))

    def unembedding(self) -> Unembedding:
        return self.head.unembedding(self.decoder.embed.table)

    def __call__(self, source: mx.array, tokens: mx.array, ctx: Context | None = None) -> mx.array:
        ctx = ctx or Context()
        ctx.memory = self.encode(source, ctx)
        return self.decode(tokens, ctx)

    def decode(self, tokens: mx.array, ctx: Context) -> mx.array:
        """Logits `[B, T, V]` of a target, where `ctx.memory` is the output of `encode`."""
        h = self.decoder.forward(self.decoder.embed_tokens(tokens, ctx), ctx)
        return self.head(h, self.decoder.embed.table)

    def alignment(
        self, source: mx.array, tokens: mx.array, valid: mx.array | None = None
    ) -> mx.array:
        """The alignment of target and source tokens, `[B, T, S]`: cross-attention weights of the
        last block, averaged over its heads (Vaswani et al. 2017, section 3.2.3)."""
        recording = Recording({"cross_attention"})
        ctx = Context(collected=Collected(observer=recording), memory_valid=valid)
        ctx.memory = self.encode(source, ctx)
        self.decoder.forward(self.decoder.embed_tokens(tokens, ctx), ctx)
        return recording.arrays[-1][1].mean(axis=1)

    def init_layers(self, batch: int, length: int, dtype: mx.Dtype, given: Arrays) -> State:
        """The decode state before the first target token, beside the encoded `source [B, S]` of
        `given`, of which `source_valid [B, S]` exists."""
        self.decoder.position.admit(length)
        ctx = Context(memory_valid=given.get("source_valid"))
        memory, memory_valid = self.encode(given[self.source_name], ctx), ctx.memory_valid
        blocks = self.decoder.stack.init_state(batch, length, dtype, memory)
        state: State = {"offset": mx.array(0), "blocks": blocks}
        return state if memory_valid is None else state | {"memory_valid": memory_valid}

    def step(self, tokens: mx.array, state: State) -> tuple[mx.array, State]:
        ctx = Context(cursor=Cursor(offset=state["offset"]), memory_valid=state.get("memory_valid"))
        h, blocks = self.decoder.decode(tokens, state["blocks"], ctx)
        after = {"offset": state["offset"] + tokens.shape[1], "blocks": blocks}
        return self.head(h, self.decoder.embed.table), state | after
