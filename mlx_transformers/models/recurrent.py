"""The recurrent language model: cells that read tokens and predict the next one."""

from typing import Annotated, Any, ClassVar, Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field, model_validator

from ..core.context import Context, Layout
from ..layers.dropout import Dropout, WordDropout
from ..layers.heads import Unembedding
from ..layers.norms import NoNorm
from ..layers.parameter import Place
from ..layers.positions.position import Position
from ..layers.recurrence import Recurrence, RecurrenceModule, RecurrentLayer
from ..recipe.config import Kind
from ..recipe.slot import Slot

ENDLESS = 2**20
"""Tokens a recurrent model may be asked for: its state doesn't grow, so nothing limits it."""


class Recurrent(Kind):
    """A recurrent language model: embed, L recurrent layers, head; Mikolov et al. 2010.

    With its dropouts and penalties it is AWD-LSTM (Merity et al. 2017), which ULMFiT fine-tunes.
    With `data.batch.kind = "streams"` it reads on where the batch before ended (truncated BPTT:
    Williams & Peng 1990).
    """

    kind: Literal["recurrent"] = "recurrent"
    does: ClassVar[str] = "continues"
    """What it does with a text; an objective trains models that do what its `trains` says."""
    dim: int = Field(ge=1)
    """Width D of the embeddings and of the last layer."""
    vocab_size: int | None = Field(None, ge=1)
    """Vocabulary V; none means the tokenizer's own."""
    embed: Annotated[Kind, Slot("embed")]
    """How tokens become vectors."""
    stack: Recurrence
    """The recurrent layers."""
    head: Annotated[Kind, Slot("head")]
    """How vectors become logits."""
    init: Annotated[Kind, Slot("init")]
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

    @property
    def norm(self) -> NoNorm:
        """What stands between the last layer and the head: nothing."""
        return NoNorm()

    def layers(self) -> list[RecurrentLayer]:
        """What the planner asks of each layer."""
        return self.stack.layers(self.dim, self.dim)

    def build(self, vocab_size: int) -> "RecurrentModel":
        """The module, initialised from MLX's global random state."""
        model = RecurrentModel(self, self.vocab_size or vocab_size)
        self.init.apply(model, self.stack.n_layers)  # type: ignore[attr-defined]
        return model


class RecurrentModel(nn.Module):
    """`(tokens [B, T], ctx) -> logits [B, T, V]`."""

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
        self.head = config.head.build(vocab_size, config.dim)

    def stacks(self) -> list[RecurrenceModule]:
        """Every stack of layers, in the order that they run."""
        return [self.stack]

    def hidden(self, tokens: mx.array, ctx: Context) -> mx.array:
        """What meets the vocabulary, `[B, T, width]`; reads on from `ctx.collected.carried`."""
        return self.head.transform(self.read(tokens, ctx))

    def read(self, tokens: mx.array, ctx: Context) -> mx.array:
        """The output of the last layer, `[B, T, D]`."""
        ctx.position = Position()
        x = self.before(self.words(self.embed(tokens, ctx), tokens, ctx), ctx)
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

    def unembedding(self) -> Unembedding:
        """The map from `hidden` to logits, for losses that never hold all logits."""
        return self.head.unembedding(self.embed.table)

    def __call__(self, tokens: mx.array, ctx: Context | None = None) -> mx.array:
        return self.head(self.read(tokens, ctx or Context()), self.embed.table)

    @property
    def recompute_beyond(self) -> None:
        """None: a recurrent model has no positions that depend on the length of a text."""
        return None

    def init_state(
        self,
        batch: int,
        length: int,
        dtype: mx.Dtype = mx.float32,
        *,
        pad: mx.array | None = None,
        total_length: int | mx.array = 0,
    ) -> dict[str, Any]:
        """An empty decode state for `batch` rows, whatever their `length` and
        `total_length`.

        Args:
            pad: `[B]`, how many tokens before the first of each row will be padding.
        """
        state = {"offset": mx.array(0), "blocks": self.stack.init_state(batch, dtype)}
        return state if pad is None else state | {"pad": pad}

    def carried_state(self, batch: int) -> list[Any]:
        """The zero state before the first of consecutive batches of `batch` rows."""
        return self.stack.init_state(batch, mx.float32)

    def step(self, tokens: mx.array, state: dict[str, Any]) -> tuple[mx.array, dict[str, Any]]:
        """Continue every row by `tokens [B, T]`: logits `[B, T, V]` and the new state."""
        ctx = Context(position=Position())
        if "pad" in state:
            places = mx.arange(tokens.shape[1]) + state["offset"]
            ctx.layout = Layout(valid=places >= state["pad"][:, None])
        h, blocks = self.stack(self.embed(tokens, ctx), state["blocks"], ctx)
        after = {"offset": state["offset"] + tokens.shape[1], "blocks": blocks}
        return self.head(h, self.embed.table), state | after
