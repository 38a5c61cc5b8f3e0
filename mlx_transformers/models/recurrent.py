"""The recurrent language model: cells that read tokens and predict the next one."""

from typing import Annotated, Any, ClassVar, Literal

import mlx.core as mx
from pydantic import Field, model_validator

from ..core.context import Context, Layout
from ..core.task import Task
from ..layers.dropout import Dropout, WordDropout
from ..layers.heads import vocabulary_head
from ..layers.kinds import EmbedKind, HeadKind, InitKind, State
from ..layers.parameter import Place
from ..layers.positions.position import Position
from ..layers.recurrence import Recurrence, RecurrenceModule
from ..ops.unembedding import Unembedding
from ..recipe.slot import Slot
from .model import Arrays, Decodable, ModelKind, TowerSpec, vectors_at

ENDLESS = 2**20
"""Tokens a recurrent model may be asked for: its state doesn't grow, so nothing limits it."""


class Recurrent(ModelKind):
    """A recurrent language model: embed, L recurrent layers, head; Mikolov et al. 2010.

    With its dropouts and penalties it is AWD-LSTM (Merity et al. 2017), which ULMFiT fine-tunes.
    With `data.batch.kind = "streams"` it reads on where the batch before ended (truncated BPTT:
    Williams & Peng 1990).
    """

    kind: Literal["recurrent"] = "recurrent"
    tasks: ClassVar[frozenset[Task]] = frozenset({"causal_lm"})
    dim: int = Field(ge=1)
    """Width D of the embeddings and of the last layer."""
    embed: Annotated[EmbedKind, Slot("embed")]
    """How tokens become vectors."""
    stack: Recurrence
    """The recurrent layers."""
    head: Annotated[HeadKind, Slot("head")]
    """How vectors become logits."""
    init: Annotated[InitKind, Slot("init")]
    """How weights start."""
    word_dropout: float = Field(0.0, ge=0, lt=1)
    """Share of the vocabulary whose embeddings a training pass sees as zeros."""
    input_dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout before the first layer."""
    output_dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout after the last layer."""
    activation_penalty: float = Field(0.0, ge=0)
    """AR: α of `α · mean(drop(h)²)` over the last layer's outputs (Merity et al. 2017, 4.5)."""
    slowness_penalty: float = Field(0.0, ge=0)
    """TAR: β of `β · mean((h_t - h_{t+1})²)` over the last layer's outputs (Merity et al. 2017,
    4.5)."""

    @model_validator(mode="after")
    def _reads_forward(self) -> "Recurrent":
        if self.stack.bidirectional:
            raise ValueError(
                "model.stack.bidirectional would let a language model read what it is to predict."
            )
        return self

    def towers(self) -> list[TowerSpec]:
        layers = self.stack.layers(self.dim, self.dim)
        return [TowerSpec("", self.dim, layers, (self.embed,), names=("layer",))]

    def build(self, vocab_size: int) -> "RecurrentModel":
        model = RecurrentModel(self, self.vocab_size or vocab_size)
        self.init.apply(model, self.stack.n_layers)
        return model


class RecurrentModel(Decodable):
    """`(tokens [B, T], ctx) -> logits [B, T, V]`."""

    tasks = Recurrent.tasks
    places: ClassVar[dict[str, Place]] = {"embed": "below"}
    max_seq_len = ENDLESS

    def __init__(self, config: Recurrent, vocab_size: int) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.activation_penalty = config.activation_penalty
        self.slowness_penalty = config.slowness_penalty
        self.embed = config.embed.build(vocab_size, config.dim)
        self.words = WordDropout(config.word_dropout, vocab_size)
        self.before = Dropout(config.input_dropout, config.stack.locked)
        self.stack = config.stack.build(config.dim, config.dim)
        self.after = Dropout(config.output_dropout, config.stack.locked)
        self.head = vocabulary_head(config.head, vocab_size, config.dim)

    def stacks(self) -> list[RecurrenceModule]:
        return [self.stack]

    def embedded(self, batch: Arrays, ctx: Context) -> mx.array:
        ctx.position, tokens = Position(), batch["tokens"]
        return self.before(self.words(self.embed(tokens, ctx), tokens, ctx), ctx)

    def features(self, x: mx.array, ctx: Context) -> mx.array:
        """The output of the last layer, `[B, T, D]`. The state begins with `collected.carried`, and
        its end is left there, unless it is None."""
        begin = ctx.collected.carried
        if begin is None:
            begin = self.stack.init_state(x.shape[0], x.dtype)
        h, after = self.stack(x, begin, ctx)
        if ctx.collected.carried is not None:
            ctx.collected.carried = after
        y = self.after(h, ctx)
        self._penalise(h, y, ctx)
        return y

    def _penalise(self, h: mx.array, y: mx.array, ctx: Context) -> None:
        if self.activation_penalty:
            ctx.collected.add_aux("activation", self.activation_penalty * y.square().mean())
        if self.slowness_penalty:
            ctx.collected.add_aux(
                "slowness", self.slowness_penalty * (h[:, 1:] - h[:, :-1]).square().mean()
            )

    def transform(self, h: mx.array) -> mx.array:
        return self.head.transform(h)

    def unembedding(self) -> Unembedding:
        return self.head.unembedding(self.embed.table)

    def __call__(self, tokens: mx.array, ctx: Context | None = None) -> mx.array:
        ctx = ctx or Context()
        x = self.embedded({"tokens": tokens}, ctx)
        return self.head(self.features(x, ctx), self.embed.table)

    def init_layers(self, batch: int, length: int, dtype: mx.Dtype, given: Arrays) -> State:
        """The empty state of `batch` rows, whatever their `length`."""
        return {"offset": mx.array(0), "blocks": self.stack.init_state(batch, dtype)}

    def carried_state(self, batch: int) -> list[Any]:
        return self.stack.init_state(batch, mx.float32)

    def step(self, tokens: mx.array, state: State) -> tuple[mx.array, State]:
        ctx, vectors = Context(position=Position()), vectors_at(state, tokens.shape[1])
        if "pad" in state:
            places = mx.arange(tokens.shape[1]) + state["offset"]
            ctx.layout = Layout(valid=places >= state["pad"][:, None], vectors=vectors)
        elif vectors is not None:
            ctx.layout = Layout(vectors=vectors)
        h, blocks = self.stack(self.embed(tokens, ctx), state["blocks"], ctx)
        after = {"offset": state["offset"] + tokens.shape[1], "blocks": blocks}
        return self.head(h, self.embed.table), state | after
