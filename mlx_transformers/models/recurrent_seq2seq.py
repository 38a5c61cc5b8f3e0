"""The recurrent encoder-decoder: one network reads the source, another writes the target."""

from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field, model_validator

from ..core.context import Context
from ..core.errors import RecipeError
from ..core.task import Task
from ..layers.attentive import Attend, AttentiveDecoder, Choose, KeyedMemory
from ..layers.dropout import Dropout
from ..layers.heads import vocabulary_head
from ..layers.kinds import AlignKind, EmbedKind, HeadKind, InitKind, State
from ..layers.parameter import Place
from ..layers.positions.position import Position
from ..layers.recurrence import Recurrence, RecurrenceModule
from ..layers.scheduled_sampling import ScheduledSampling
from ..ops.unembedding import Unembedding
from ..recipe.slot import Slot
from .model import Aligning, Arrays, ModelKind, TowerSpec
from .recurrent import ENDLESS

Memory = dict[str, Any]


class RecurrentSeq2Seq(ModelKind):
    """Recurrent sequence to sequence, the decoder beginning with the encoder's last states.

    Sutskever et al. 2014, Cho et al. 2014 (no `align`: one vector holds the source); Bahdanau et
    al. 2015 (`attend` before, `additive`); Luong et al. 2015 (`attend` after).
    """

    kind: Literal["recurrent_seq2seq"] = "recurrent_seq2seq"
    tasks: ClassVar[frozenset[Task]] = frozenset({"seq2seq"})
    dim: int = Field(ge=1)
    """Width D of embeddings, memory and states."""
    embed: Annotated[EmbedKind, Slot("embed")]
    """How tokens become vectors."""
    shared: bool = True
    """Whether both sides read one embedding table."""
    encoder: Recurrence
    """The tower that reads the source."""
    decoder: Recurrence
    """The tower that writes the target."""
    bridge: Literal["copy", "tanh"] = "copy"
    """How the encoder's last states become the decoder's first: as they are, or through
    `tanh(W s + b)` (Bahdanau et al. 2015, A.2.2), which lets the widths between layers differ."""
    align: Annotated[AlignKind, Slot("align")] | None = None
    """Attention of the decoder over the source; none means no attention."""
    attend: Attend = "after"
    """Whether attention runs before the cell's step, with the old state as its query, or after it,
    with the new one."""
    input_feeding: bool = False
    """Whether a step also reads the output of the previous step."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout on embeddings and on the input of the head."""
    sampling: ScheduledSampling | None = None
    """Decoder inputs that the model samples in training; none is teacher forcing."""
    head: Annotated[HeadKind, Slot("head")]
    """How vectors become logits."""
    init: Annotated[InitKind, Slot("init")]
    """How weights start."""

    @model_validator(mode="after")
    def _goes_together(self) -> "RecurrentSeq2Seq":
        if self.decoder.bidirectional:
            raise ValueError("model.decoder.bidirectional would read what it is to write.")
        if self.align is None and (self.attend != "after" or self.input_feeding):
            raise ValueError("model.attend and model.input_feeding have no effect without align.")
        if self.attend == "before" and self.input_feeding:
            raise ValueError(
                "model.input_feeding goes with attend = 'after': a step that looks before it "
                "reads what it saw already."
            )
        if self.encoder.n_layers != self.decoder.n_layers:
            raise ValueError(
                "Each layer of model.decoder begins with the last state of one of model.encoder: "
                f"{self.encoder.n_layers} and {self.decoder.n_layers} layers don't pair."
            )
        if self.encoder.cell.kind != self.decoder.cell.kind:
            raise ValueError(
                "model.encoder.cell and model.decoder.cell must be of one kind: their states are."
            )
        return self

    def towers(self) -> list[TowerSpec]:
        beside = self.attend == "before" or self.input_feeding
        encoder = self.encoder.layers(self.dim, self.dim)
        *below, last = self.decoder.layers(self.dim * (1 + beside), self.dim)
        decoder = [*below, replace(last, align=self.align, align_in_loop=beside)]
        names = ("layer",)
        return [
            TowerSpec("encoder", self.dim, encoder, names=names, reads_source=True),
            TowerSpec("decoder", self.dim, decoder, (self.embed,), names=names),
        ]

    def build(self, vocab_size: int) -> "RecurrentSeq2SeqModel":
        pairs = zip(
            self.encoder.widths(self.dim, self.dim),
            self.decoder.widths(self.dim, self.dim),
            strict=True,
        )
        for (_, read), (_, written) in pairs:
            if self.bridge == "copy" and read != written:
                raise RecipeError(
                    f"model.bridge = 'copy' between layers of {read} and {written} units: give "
                    "model.encoder and model.decoder one hidden_dim, or take bridge = 'tanh'."
                )
        model = RecurrentSeq2SeqModel(self, self.vocab_size or vocab_size)
        self.init.apply(model, self.decoder.n_layers)
        return model


class RecurrentSeq2SeqModel(Aligning):
    """`(source [B, S], tokens [B, T], ctx) -> logits [B, T, V]`."""

    tasks = RecurrentSeq2Seq.tasks
    places: ClassVar[dict[str, Place]] = {"embed": "below", "source_embed": "below"}
    max_seq_len = ENDLESS

    def __init__(self, config: RecurrentSeq2Seq, vocab_size: int) -> None:
        super().__init__()
        dim = config.dim
        self.vocab_size = vocab_size
        self.embed = config.embed.build(vocab_size, dim)
        if not config.shared:
            self.source_embed = config.embed.build(vocab_size, dim)
        self.drop = Dropout(config.dropout, config.decoder.locked)
        self.encoder = config.encoder.build(dim, dim)
        if config.bridge == "tanh":
            self.bridge = [_bridges(config, i) for i in range(config.decoder.n_layers)]
        self.decoder = AttentiveDecoder(
            config.decoder, dim, config.align, config.attend, config.input_feeding
        )
        if config.sampling is not None:
            self.sampling = config.sampling.build()
        self.head = vocabulary_head(config.head, vocab_size, dim)

    def stacks(self) -> list[RecurrenceModule]:
        return [self.encoder, self.decoder.stack]

    def encode(self, source: mx.array, ctx: Context) -> Memory:
        """The memory of a source `[B, S]`, of which `ctx.memory_valid` exists: the encoder's
        outputs `h [B, S, D]`, the decoder's first states `begin`, and `valid`."""
        valid = ctx.memory_valid
        layout = replace(ctx.layout, valid=valid, segments=None)
        source_ctx = replace(ctx, layout=layout, position=Position(), key=ctx.split_key())
        embed = self.source_embed if "source_embed" in self else self.embed
        x = self.drop(embed(source, source_ctx), source_ctx)
        h, states = self.encoder(x, self.encoder.init_state(x.shape[0], x.dtype), source_ctx)
        if "bridge" in self:
            pairs = zip(self.bridge, states, strict=True)
            states = [{k: mx.tanh(maps[k](v)) for k, v in s.items()} for maps, s in pairs]
        memory: Memory = {"h": h, "begin": states}
        return memory if valid is None else memory | {"valid": valid}

    def embedded(self, batch: Arrays, ctx: Context) -> mx.array:
        """The decoder's input `[B, T, D]` for `tokens`; encodes `source` into `ctx.memory`."""
        ctx.memory_valid = batch.get("source_valid")
        ctx.memory = self.encode(batch["source"], ctx)
        ctx.position = Position()
        return self.drop(self.embed(batch["tokens"], ctx), ctx)

    def features(self, x: mx.array, ctx: Context) -> mx.array:
        return self.aligned(x, ctx)[0]

    def aligned(self, x: mx.array, ctx: Context) -> tuple[mx.array, mx.array | None]:
        """The decoder's outputs `[B, T, D]` for `x` of `embedded`, and its attention weights over
        the source, `[B, T, S]`; None where it has no alignment."""
        memory = ctx.memory
        source = self.decoder.make_keys(memory["h"], memory.get("valid"))
        state = self.decoder.init_state(memory["begin"])
        choose = self._chooser(x.shape[0], x.shape[1], ctx)
        y, weights, _ = self.decoder(x, state, source, ctx, choose)
        return self.drop(y, ctx), weights

    def _chooser(self, batch: int, length: int, ctx: Context) -> Choose | None:
        if "sampling" not in self or not ctx.training:
            return None
        return self.sampling.chooser(
            (batch, length),
            lambda y: self.head(y, self.embed.table),
            lambda tokens: self.embed(tokens, ctx),
            ctx,
        )

    def transform(self, h: mx.array) -> mx.array:
        return self.head.transform(h)

    def unembedding(self) -> Unembedding:
        return self.head.unembedding(self.embed.table)

    def __call__(self, source: mx.array, tokens: mx.array, ctx: Context | None = None) -> mx.array:
        ctx = ctx or Context()
        x = self.embedded(_batch(source, tokens, ctx.memory_valid), ctx)
        return self.head(self.features(x, ctx), self.embed.table)

    def alignment(
        self, source: mx.array, tokens: mx.array, valid: mx.array | None = None
    ) -> mx.array:
        """The alignment of target and source tokens, `[B, T, S]`: the attention weights.

        Raises:
            RecipeError: the model has no attention.
        """
        ctx = Context()
        weights = self.aligned(self.embedded(_batch(source, tokens, valid), ctx), ctx)[1]
        if weights is None:
            raise RecipeError("This model has no model.align: it does not look at the source.")
        return weights

    def init_layers(self, batch: int, length: int, dtype: mx.Dtype, given: Arrays) -> State:
        """The decode state before the first target token, beside the encoded `source [B, S]` of
        `given`, of which `source_valid [B, S]` exists."""
        valid = given.get("source_valid")
        memory = self.encode(given["source"], Context(memory_valid=valid))
        source = self.decoder.make_keys(memory["h"], valid)
        state = self.decoder.init_state(memory["begin"])
        if source is None:
            return state
        attended = {"memory": source.memory, "keys": source.keys}
        return state | attended | ({} if valid is None else {"valid": valid})

    def step(self, tokens: mx.array, state: State) -> tuple[mx.array, State]:
        ctx = Context(position=Position())
        source = None
        if "keys" in state:
            source = KeyedMemory(state["memory"], state["keys"], state.get("valid"))
        y, _, after = self.decoder(self.embed(tokens, ctx), state, source, ctx)
        return self.head(y, self.embed.table), state | after


def _batch(source: mx.array, tokens: mx.array, valid: mx.array | None) -> dict[str, mx.array]:
    batch = {"source": source, "tokens": tokens}
    return batch if valid is None else batch | {"source_valid": valid}


def _bridges(config: RecurrentSeq2Seq, i: int) -> dict[str, nn.Linear]:
    """A map for each state of layer i."""
    read = config.encoder.widths(config.dim, config.dim)[i][1]
    written = config.decoder.widths(config.dim, config.dim)[i][1]
    names = config.decoder.cell.build(1, 1).states
    return {name: nn.Linear(read, written) for name in names}
