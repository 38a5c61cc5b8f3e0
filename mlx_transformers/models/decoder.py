"""The decoder: a stack that reads tokens and predicts the next one."""

from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import mlx.core as mx
from pydantic import Field, model_validator

from ..core.context import Context, Cursor, Layout
from ..core.task import Task
from ..layers.adapters.prompt import PromptEmbedding
from ..layers.heads import refuse_tied, vocabulary_head
from ..layers.kinds import HeadKind, InitKind, PoolKind, State
from ..layers.mtp import MultiTokenKind
from ..layers.pools import ScalarModule
from ..ops.unembedding import Unembedding
from ..recipe.slot import Slot
from .model import Arrays, Decodable, ModelKind, TowerSpec, last, vectors_at
from .stack import Stack, TowerModule
from .tower import Tower


class Decoder(Tower, ModelKind):
    """A decoder-only language model: embed, L blocks, norm, head.

    Liu et al. 2018, section 4.2.3; Radford et al. 2018 (GPT-1). Its members differ in what fills
    the slots.
    """

    kind: Literal["decoder"] = "decoder"
    tasks: ClassVar[frozenset[Task]] = frozenset({"causal_lm"})
    dim: int = Field(ge=1)
    """Width D of the residual stream."""
    max_seq_len: int = Field(ge=1)
    """The longest sequence the model is made for, in tokens: its context."""
    head: Annotated[HeadKind, Slot("head")]
    """How vectors become logits."""
    ahead: Annotated[MultiTokenKind, Slot("ahead")] | None = None
    """Multi-token prediction, in training alone; none means only the next token."""
    pool: Annotated[PoolKind, Slot("pool")] | None = None
    """An output for the whole sequence beside the head: the reward of a reward model, the value
    function of a policy; none means there is none."""
    init: Annotated[InitKind, Slot("init")]
    """How weights start."""

    @model_validator(mode="after")
    def _fits_both_streams(self) -> "Decoder":
        refuse_tied(self.head, self.reversible)
        if self.ahead is not None and self.reversible == "concatenate":
            raise ValueError(
                "ahead reads vectors of width dim, and reversible = 'concatenate' doubles it: set "
                "reversible = 'mean', or unset ahead."
            )
        return self

    def towers(self) -> list[TowerSpec]:
        return [self.spec("", self.dim)]

    def training_towers(self) -> list[TowerSpec]:
        if self.ahead is None:
            return []
        blocks = self.ahead.blocks(self.layers()[-1])
        return [TowerSpec("ahead", self.dim, blocks, position=self.position)]

    def context(self) -> int:
        return self.max_seq_len

    def build(self, vocab_size: int) -> "DecoderModel":
        model = DecoderModel(self, self.vocab_size or vocab_size)
        self.init.apply(model, self.n_layers)
        return model


class DecoderModel(TowerModule, Decodable):
    """`(tokens [B, T], ctx) -> logits [B, T, V]`."""

    tasks = Decoder.tasks

    def __init__(self, config: Decoder, vocab_size: int) -> None:
        super().__init__(config, vocab_size, config.dim, config.max_seq_len)
        self.max_seq_len = config.max_seq_len
        self.vocab_size = vocab_size
        self.head = vocabulary_head(config.head, vocab_size, config.width(config.dim))
        if config.ahead is not None:
            norm_and_layer = (config.norm, config.layers()[-1])
            self.ahead = config.ahead.build(config.dim, config.max_seq_len, *norm_and_layer)
        if config.pool is not None:
            self.pool = config.pool.build(config.width(config.dim))

    def stacks(self) -> list[Stack]:
        return [self.stack]

    def embedded(self, batch: Arrays, ctx: Context) -> mx.array:
        return self.embed_tokens(batch["tokens"], ctx)

    def features(self, x: mx.array, ctx: Context) -> mx.array:
        return self.forward(x, ctx)

    def transform(self, h: mx.array) -> mx.array:
        return self.head.transform(h)

    def pooled(self, x: mx.array, ctx: Context) -> mx.array:
        """The pool's output `[B, ...]` for `x` of `features`."""
        return self.pool(x, ctx)

    def token_values(self, x: mx.array, ctx: Context) -> mx.array:
        """The output of a pool of kind `scalar` at every position, `[B, T]`, for `x` of
        `features`."""
        assert isinstance(self.pool, ScalarModule), "check_model has seen to the pool's kind"
        return self.pool.each(x, ctx)

    def exit(self, h: mx.array) -> mx.array:
        return self.transform(self.norm(h))

    def hidden_multi_token(self, tokens: mx.array, ctx: Context) -> tuple[mx.array, list[mx.array]]:
        """`hidden` of `tokens [B, T]`, and of each multi-token prediction: `[B, T - k, width]`
        predicts the token after k others."""
        h = self.forward(self.embed_tokens(tokens, ctx), ctx)
        passes = [shortened(ctx, k) for k in range(1, len(self.ahead.chain) + 1)]
        further = self.ahead(h, self.embed(tokens, ctx), passes)
        for i, pass_ctx in enumerate(passes, self.stack.n_layers):
            ctx.collected.merge(pass_ctx.collected.side_outputs(), i)
        return self.head.transform(h), [self.head.transform(states) for states in further]

    def unembedding(self) -> Unembedding:
        return self.head.unembedding(self.embed.table)

    def __call__(self, tokens: mx.array, ctx: Context | None = None) -> mx.array:
        ctx = ctx or Context()
        h = self.forward(self.embed_tokens(tokens, ctx), ctx)
        return self.head(last(h, tokens.shape[1]), self.embed.table)

    def soft_prompt(self) -> mx.array | None:
        return self.embed.soft_prompt() if isinstance(self.embed, PromptEmbedding) else None

    def init_layers(self, batch: int, length: int, dtype: mx.Dtype, given: Arrays) -> State:
        self.position.admit(length)
        return {"offset": mx.array(0), "blocks": self.stack.init_state(batch, length, dtype)}

    @property
    def recompute_beyond(self) -> int | None:
        block_positions = [block.position for block in self.stack.blocks if "position" in block]
        ends = [position.recompute_beyond for position in (self.position, *block_positions)]
        return min((end for end in ends if end is not None), default=None)

    def step(self, tokens: mx.array, state: State) -> tuple[mx.array, State]:
        return self.step_with(tokens, vectors_at(state, tokens.shape[1]), state)

    def step_with(
        self, tokens: mx.array, vectors: mx.array | None, state: State
    ) -> tuple[mx.array, State]:
        """`step`, with `vectors [B, T, W]` in place of the embeddings of tokens that are -1."""
        cursor = Cursor(state["offset"], state.get("pad"), state.get("total_length"))
        layout = Layout(positions=_padded_positions(tokens, cursor), vectors=vectors)
        h, blocks = self.decode(tokens, state["blocks"], Context(layout, cursor))
        after = {"offset": state["offset"] + tokens.shape[1], "blocks": blocks}
        return self.head(h, self.embed.table), state | after


def shortened(ctx: Context, k: int) -> Context:
    """The context of a pass over the same rows without their last k positions."""

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
    return replace(ctx, layout=layout, key=ctx.split_key(), collected=ctx.collected.for_layer())


def _padded_positions(tokens: mx.array, cursor: Cursor) -> mx.array | None:
    """Positions `[B, T]` of a step with left padding; None without padding."""
    if cursor.pad is None:
        return None
    return mx.maximum(mx.arange(tokens.shape[1]) + cursor.offset - cursor.pad[:, None], 0)
