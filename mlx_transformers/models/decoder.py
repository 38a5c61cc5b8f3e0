"""The decoder: a stack that reads tokens and predicts the next one."""

from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

import mlx.core as mx
from pydantic import Field

from ..core.context import Context, Cursor, Layout
from ..layers.block import Block
from ..layers.heads import Unembedding
from ..recipe.config import Kind
from ..recipe.slot import Slot
from .stack import Stack, Tower, TowerModule


class Decoder(Tower, Kind):
    """A decoder-only language model: embed, L blocks, norm, head.

    Liu et al. 2018, section 4.2.3; Radford et al. 2018 (GPT-1). Its members differ in what fills
    the slots.
    """

    kind: Literal["decoder"] = "decoder"
    does: ClassVar[str] = "continues"
    """What it does with a text; an objective trains models that do what its `trains` says."""
    dim: int = Field(ge=1)
    """Width D of the residual stream."""
    max_seq_len: int = Field(ge=1)
    """The longest sequence the model is made for, in tokens: its context."""
    vocab_size: int | None = Field(None, ge=1)
    """Vocabulary V; none means the tokenizer's own."""
    head: Annotated[Kind, Slot("head")]
    """How vectors become logits."""
    ahead: Annotated[Kind, Slot("ahead")] | None = None
    """What predicts tokens beyond the next one, in training alone; none means nothing does."""
    init: Annotated[Kind, Slot("init")]
    """How weights start."""

    def ahead_blocks(self) -> list[Block]:
        """The blocks of what looks ahead."""
        if self.ahead is None:
            return []
        return [self.ahead.block or self.layers()[-1]] * self.ahead.n  # type: ignore[attr-defined]

    def build(self, vocab_size: int) -> "DecoderModel":
        """The module, initialised from MLX's global random state."""
        model = DecoderModel(self, self.vocab_size or vocab_size)
        self.init.apply(model, self.n_layers)  # type: ignore[attr-defined]
        return model


class DecoderModel(TowerModule):
    """`(tokens [B, T], ctx) -> logits [B, T, V]`."""

    def __init__(self, config: Decoder, vocab_size: int) -> None:
        super().__init__(config, vocab_size, config.dim, config.max_seq_len)
        self.max_seq_len = config.max_seq_len
        self.vocab_size = vocab_size
        self.head = config.head.build(vocab_size, config.dim)
        if config.ahead is not None:
            own = (config.norm, config.ahead_blocks()[0])
            self.ahead = config.ahead.build(config.dim, config.max_seq_len, *own)  # type: ignore[attr-defined]

    def stacks(self) -> list[Stack]:
        """Every stack of blocks, in the order that they run."""
        return [self.stack]

    def hidden(self, tokens: mx.array, ctx: Context) -> mx.array:
        """What meets the vocabulary, `[B, T, width]`: the last block's output, normalised."""
        return self.head.transform(self.read(tokens, ctx))

    def hidden_ahead(self, tokens: mx.array, ctx: Context) -> tuple[mx.array, list[mx.array]]:
        """The same, and beside it what meets the vocabulary for each token further on, of a model
        with an `ahead`: `[B, T - k, width]` for the one after k others."""
        h = self.read(tokens, ctx)
        passes = [shortened(ctx, k) for k in range(1, len(self.ahead.chain) + 1)]
        further = self.ahead(h, self.embed(tokens, ctx), passes)
        for i, own in enumerate(passes, self.stack.n_layers):
            for name, value in own.collected.aux.items():
                ctx.collected.add_aux(name, value)
            for name, value in own.collected.stats.items():
                ctx.collected.add_stat(f"{name}/{i}", value)
        return self.head.transform(h), [self.head.transform(each) for each in further]

    def unembedding(self) -> Unembedding:
        """The map from `hidden` to logits, for losses that never hold all logits."""
        return self.head.unembedding(self.embed.table)

    def __call__(self, tokens: mx.array, ctx: Context | None = None) -> mx.array:
        return self.head(self.read(tokens, ctx or Context()), self.embed.table)

    def init_state(
        self,
        batch: int,
        length: int,
        dtype: mx.Dtype = mx.float32,
        *,
        pad: mx.array | None = None,
        total_length: int | mx.array = 0,
    ) -> dict[str, Any]:
        """An empty decode state for `batch` rows of at most `length` tokens.

        Args:
            pad: `[B]`, how many tokens before the first of each row will be padding.
            total_length: length of the sequence that is read next, a scalar or `[B]`, where a
                model with `recompute_beyond` reads it in several steps.

        Raises:
            RunError: the position kind has not as many positions.
        """
        self.position.admit(length)
        state = {"offset": mx.array(0), "blocks": self.stack.init_state(batch, length, dtype)}
        if self.recompute_beyond is not None:
            state["total_length"] = mx.array(total_length)
        return state if pad is None else state | {"pad": pad}

    @property
    def recompute_beyond(self) -> int | None:
        """Sequence length beyond which the text is read anew with its `total_length`, if any."""
        own = [block.position for block in self.stack.blocks if "position" in block]
        ends = [position.recompute_beyond for position in (self.position, *own)]
        return min((end for end in ends if end is not None), default=None)

    def step(self, tokens: mx.array, state: dict[str, Any]) -> tuple[mx.array, dict[str, Any]]:
        """Continue every row by `tokens [B, T]`: logits `[B, T, V]` and the new state.

        The state is a tree of arrays, so a step can be compiled; a prompt is one step.
        """
        ctx = Context(
            cursor=Cursor(
                offset=state["offset"], pad=state.get("pad"), total_length=state.get("total_length")
            )
        )
        ctx.layout = Layout(positions=padded_positions(tokens, ctx))
        h, blocks = self.go_on(tokens, state["blocks"], ctx)
        after = {"offset": state["offset"] + tokens.shape[1], "blocks": blocks}
        return self.head(h, self.embed.table), state | after


def shortened(ctx: Context, k: int) -> Context:
    """The context of a pass over the same rows without their last k places."""

    def cut(array: mx.array | None) -> mx.array | None:
        return None if array is None else array[:, :-k]

    rows = ctx.layout
    layout = replace(
        rows,
        positions=cut(rows.positions),
        segments=cut(rows.segments),
        valid=cut(rows.valid),
        types=cut(rows.types),
    )
    collected = replace(ctx.collected, aux={}, stats={})
    return replace(ctx, layout=layout, key=ctx.split_key(), collected=collected)


def padded_positions(tokens: mx.array, ctx: Context) -> mx.array | None:
    """Positions `[B, T]` of a step with `cursor.pad` left padding; None without padding."""
    if ctx.cursor.pad is None:
        return None
    return mx.maximum(mx.arange(tokens.shape[1]) + ctx.cursor.offset - ctx.cursor.pad[:, None], 0)
