"""The vocabulary of the contract suite: a row, and the surroundings in which its kind runs.

A row is a config and the facts it declares. `Row.subject()` builds it into a `Subject`: a module
`(x, ctx) -> y [B, T, ...]` whatever the slot, so that one test file can check every kind.
"""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten, tree_unflatten
from pydantic import TypeAdapter

from mlx_transformers.assembly import registry as _registry  # noqa: F401 - fills the slots
from mlx_transformers.core.context import Context, Cursor, Layout
from mlx_transformers.layers.block import Block
from mlx_transformers.layers.mixers.cross_attention import CrossAttentionMixer
from mlx_transformers.layers.mixers.rwkv7 import FIRST_VALUES
from mlx_transformers.layers.parameter import parameters_of
from mlx_transformers.layers.positions.position import Position
from mlx_transformers.layers.recurrence import Recurrence
from mlx_transformers.ops.attention import attention_naive
from mlx_transformers.ops.masks import Mask
from mlx_transformers.recipe.config import Config
from mlx_transformers.recipe.slot import kind_of

BATCH, LENGTH, DIM, VOCAB, MAX_LEN, EXPERTS = 2, 9, 16, 13, 32, 4

TABLES: dict[str, type[Config]] = {"block": Block, "recurrence": Recurrence}
"""Tables that are no kinds of a slot, but have fields and rows all the same."""

Sees = Callable[[int, int], bool]
"""`(t, s)`: whether the output at position t depends on the input at position s."""


def itself(t: int, s: int) -> bool:
    return t == s


def everything(t: int, s: int) -> bool:
    return True


def first(t: int, s: int) -> bool:
    return s == 0


def past(t: int, s: int) -> bool:
    return s <= t


def last(n: int) -> Sees:
    """The last n positions, the own one included."""
    return lambda t, s: t - n < s <= t


@dataclass(frozen=True)
class Row:
    """One kind in one variant, and what it declares about itself.

    Attributes:
        sees: which inputs an output depends on when the pass is causal; when it is not, also
            the mirror image of them.
        both: the same when the pass is not causal, where it isn't `sees` and its mirror image.
        silent: parameters that get no gradient, by the formula.
        position: what fills the position slot around a mixer or an embedding.
        compiled: whether compiled = eager is tried too (kernels take seconds to build).
        whole: whether it reads a sequence whole, whatever the pass says, so that it knows no
            past, no step over time, and no documents within a row.
        pads: whether padding changes nothing before it; a Fourier transform mixes it in.
        steps: whether its surroundings can go on from where they stood.
        pairs: whether a mixer multiplies all pairs of a short row, and declares the operations of
            those that are seen; one that works by chunks declares what it multiplies.
        sparse: whether it is a mixer that computes its pattern of keys in blocks.
    """

    slot: str
    name: str
    config: Mapping[str, Any]
    sees: Sees = past
    both: Sees | None = None
    silent: tuple[str, ...] = ()
    position: Mapping[str, Any] = field(default_factory=lambda: {"kind": "rope"})
    compiled: bool = False
    whole: bool = False
    pads: bool = True
    steps: bool = True
    pairs: bool = True
    sparse: bool = False

    def __str__(self) -> str:
        return f"{self.slot}-{self.name}".replace(" ", "_")

    @property
    def kind(self) -> str:
        return self.config.get("kind", self.slot)

    def depends(self, t: int, s: int, causal: bool) -> bool:
        """Whether the output at t depends on the input at s."""
        if causal or self.whole:
            return self.sees(t, s)
        return self.both(t, s) if self.both else self.sees(t, s) or self.sees(s, t)

    def parse(self, **changes: Any) -> Any:
        """The typed config, with some fields replaced."""
        return parse(self.slot, {**self.config, **changes})

    def subject(self, seed: int = 0, **changes: Any) -> "Subject":
        """The kind in its surroundings, every parameter random (biases and norms too)."""
        return randomize(self.bare(**changes), seed)

    def bare(self, seed: int = 0, **changes: Any) -> "Subject":
        """The kind in its surroundings, its parameters as its own code made them."""
        mx.random.seed(seed)
        return SUBJECTS[self.slot](self.parse(**changes), self)


@dataclass(frozen=True)
class Change:
    """Another value of a field, and the row of its kind that has a use for the field.

    `result` is False for a field that must not change the result, only the work done for it.
    """

    value: Any
    row: str | None = None
    result: bool = True


def parse(slot: str, table: Mapping[str, Any]) -> Any:
    """A table of a recipe as the typed config of its kind."""
    cls: type[Config] = TABLES.get(slot) or kind_of(slot, table["kind"])
    return cls.model_validate(dict(table))


def randomize(module: Any, seed: int) -> Any:
    """Random values for every parameter, drawn by name: matrices by fan-in, gains near 1.

    A module's own vectors, such as rates of decay, move about the start that it gave them.
    """
    own = {each.path for each in parameters_of(module) if each.role == "own"}
    drawn = []
    for name, old in tree_flatten(module.parameters()):
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        if name in own and old.ndim == 1:
            new = np.asarray(old.astype(mx.float32)) + 0.3 * rng.standard_normal(old.shape)
        elif old.ndim >= 2:
            new = rng.standard_normal(old.shape) / np.sqrt(old.shape[-1])
        else:
            new = (not name.endswith("bias")) + 0.3 * rng.standard_normal(old.shape)
        drawn.append((name, mx.array(new.astype(np.float32))))
    module.update(tree_unflatten(drawn))
    mx.eval(module.parameters())
    return module


def weights_of(module: nn.Module) -> dict[str, np.ndarray]:
    """Every parameter by name, in float64."""
    return {n: np.asarray(v, dtype=np.float64) for n, v in tree_flatten(module.parameters())}


def flat_state(module: nn.Module) -> dict[str, mx.array]:
    """Every array that the module holds, by name."""
    return dict(tree_flatten(module.state))


class Subject(nn.Module):
    """A kind in the smallest surroundings that can run it: `(x, ctx) -> y [B, T, ...]`."""

    tokens = False
    """Whether it reads tokens rather than vectors."""
    width = DIM
    """The last dimension of its output."""
    fp32 = False
    """Whether its output is float32 whatever its weights are."""

    def inputs(self, batch: int = BATCH, length: int = LENGTH, seed: int = 1) -> mx.array:
        """Random input of the type that the subject takes."""
        rng = np.random.default_rng(seed)
        if self.tokens:
            return mx.array(rng.integers(0, VOCAB, (batch, length)).astype(np.int32))
        return mx.array(rng.standard_normal((batch, length, DIM)).astype(np.float32))

    def disturb(self, x: mx.array) -> mx.array:
        """Other input of the same shape, different everywhere."""
        return (x + 1) % VOCAB if self.tokens else x + self.inputs(*x.shape[:2], seed=7)


class Stepping(Subject):
    """A subject without a state of its own but with a place in time."""

    def init_state(self, batch: int, length: int, dtype: mx.Dtype = mx.float32) -> Any:
        return mx.array(0)

    def step(self, x: mx.array, state: Any) -> tuple[mx.array, Any]:
        return self(x, Context(cursor=Cursor(offset=state))), state + x.shape[1]


class OfMixer(Subject):
    sizes: tuple[int, ...] = (DIM,)

    def __init__(self, kind: Any, row: Row) -> None:
        super().__init__()
        self.position = parse("position", row.position).build(DIM, MAX_LEN)
        self.it = kind.build(*self.sizes)

    def __call__(self, x: mx.array, ctx: Context) -> mx.array:
        ctx.position = self.position
        ctx.memory = memory(x.shape[0], x.dtype)
        ctx.earlier = earlier(x)
        return self.it(x, ctx)

    def init_state(self, batch: int, length: int, dtype: mx.Dtype = mx.float32) -> Any:
        return {"offset": mx.array(0), "it": self.begin(batch, length, dtype)}

    def begin(self, batch: int, length: int, dtype: mx.Dtype) -> Any:
        if isinstance(self.it, CrossAttentionMixer):
            return self.it.project_memory(memory(batch, dtype))
        return self.it.init_state(batch, length, dtype)

    def step(self, x: mx.array, state: Any) -> tuple[mx.array, Any]:
        ctx = Context(cursor=Cursor(offset=state["offset"]), position=self.position)
        ctx.earlier = earlier(x)
        y, it = self.it.step(x, state["it"], ctx)
        return y, {"offset": state["offset"] + x.shape[1], "it": it}


class OfBlock(OfMixer):
    """A block is no kind, but has fields and wiring: it runs as a mixer does."""

    sizes = (DIM, MAX_LEN)

    def begin(self, batch: int, length: int, dtype: mx.Dtype) -> Any:
        return self.it.init_state(batch, length, dtype, memory(batch, dtype))


class OfAhead(Subject):
    """A chain that looks ahead, each step in the place that it is for: none is left out."""

    def __init__(self, kind: Any, row: Row) -> None:
        super().__init__()
        norm = parse("norm", {"kind": "rms_norm"})
        self.position = parse("position", row.position).build(DIM, MAX_LEN)
        self.it = kind.build(DIM, MAX_LEN, norm, kind.block)

    def __call__(self, x: mx.array, ctx: Context) -> mx.array:
        ctx.position = self.position
        h = x
        for step in self.it.chain:
            h = step.norm(step(h, x, ctx))
        return h


class OfCell(Subject):
    """A cell, or layers of them, which begin with an empty state."""

    def __init__(self, kind: Any, row: Row) -> None:
        super().__init__()
        self.it = kind.build(DIM, DIM)

    def __call__(self, x: mx.array, ctx: Context) -> mx.array:
        return self.it(x, self.it.init_state(x.shape[0], x.dtype), ctx)[0]

    def init_state(self, batch: int, length: int, dtype: mx.Dtype = mx.float32) -> Any:
        return self.it.init_state(batch, dtype)

    def step(self, x: mx.array, state: Any) -> tuple[mx.array, Any]:
        return self.it(x, state, Context())


class OfAlign(Subject):
    """What queries read of a memory by an alignment."""

    def __init__(self, kind: Any, row: Row) -> None:
        super().__init__()
        self.it = kind.build(DIM)

    def __call__(self, x: mx.array, ctx: Context) -> mx.array:
        seen = memory(x.shape[0], x.dtype)
        return self.it(x, self.it.make_keys(seen), None) @ seen


class OfFfn(Subject):
    def __init__(self, kind: Any, row: Row) -> None:
        super().__init__()
        self.it = kind.build(DIM)

    def __call__(self, x: mx.array, ctx: Context) -> mx.array:
        return self.it(x, ctx)


class OfDepth(Subject):
    """Four layers that depend on their number."""

    def __init__(self, kind: Any, row: Row) -> None:
        super().__init__()
        self.it = kind.build(DIM, 4)

    def __call__(self, x: mx.array, ctx: Context) -> mx.array:
        return self.it(x, ctx, 4, lambda i, h: h + mx.sin((i + 1) * h))


class OfNorm(OfFfn):
    def __call__(self, x: mx.array, ctx: Context) -> mx.array:
        return self.it(x)


class OfRouter(Subject):
    """Gates laid out over all experts, `[B, T, E]`."""

    width, fp32 = EXPERTS, True

    def __init__(self, kind: Any, row: Row) -> None:
        super().__init__()
        self.it = kind.build(DIM, EXPERTS)

    def __call__(self, x: mx.array, ctx: Context) -> mx.array:
        gates, choice = self.it(x.reshape(-1, DIM), ctx)
        chosen = (choice[..., None] == mx.arange(EXPERTS)).astype(gates.dtype)
        return (gates[..., None] * chosen).sum(axis=1).reshape(*x.shape[:2], EXPERTS)


class OfPosition(Stepping):
    """Embedded input, turned queries (4 heads) and turned keys (2 heads), side by side, and what
    attention by the bias alone makes of the input, where there is one; of a table that is lent, a
    sum of the rows that are read.
    """

    width = DIM + DIM + DIM // 2

    def __init__(self, kind: Any, row: Row) -> None:
        super().__init__()
        self.it = kind.build(DIM, MAX_LEN)
        self.biased = type(self.it).bias is not Position.bias
        if self.biased:
            self.width += DIM
        self.lends = type(self.it).relative is not Position.relative
        if self.lends:
            self.width += self.it.table.weight.shape[1]

    def __call__(self, x: mx.array, ctx: Context) -> mx.array:
        B, T, _ = x.shape
        heads = x.reshape(B, T, 4, -1).transpose(0, 2, 1, 3)
        q, k = self.it.rotate(heads, heads[:, :2], ctx)
        rows = [y.transpose(0, 2, 1, 3).reshape(B, T, -1) for y in (q, k)]
        if self.biased:
            places = mx.arange(T)
            bias = self.it.bias(heads, heads[:, :2], places, places, ctx)
            mask = Mask(ctx.layout.causal, segments=ctx.layout.segments, valid=ctx.layout.valid)
            flat = mx.zeros_like(heads)
            y = attention_naive(flat, flat, heads, scale=1.0, mask=mask, bias=bias)
            rows.append(y.transpose(0, 2, 1, 3).reshape(B, T, -1))
        if self.lends:
            table, which = self.it.relative(mx.arange(T), mx.arange(-2, 7))
            weight = mx.arange(1, 10).astype(table.dtype)[None, :, None]
            read = (table[which] * weight).mean(axis=1)
            rows.append(mx.broadcast_to(read, (B, *read.shape)))
        return mx.concatenate([self.it.embed(x, ctx), *rows], axis=-1)


class OfScaling(Subject):
    """Queries of two heads, turned by scaled rotary positions."""

    def __init__(self, kind: Any, row: Row) -> None:
        super().__init__()
        rope = {"kind": "rope", "theta": 50.0, "scaling": kind.model_dump()}
        self.it = parse("position", rope).build(DIM, MAX_LEN)

    def __call__(self, x: mx.array, ctx: Context) -> mx.array:
        heads = x.reshape(*x.shape[:2], 2, -1).transpose(0, 2, 1, 3)
        q, _ = self.it.rotate(heads, heads, ctx)
        return q.transpose(0, 2, 1, 3).flatten(-2)


class OfEmbed(Stepping):
    tokens = True

    def __init__(self, kind: Any, row: Row) -> None:
        super().__init__()
        width = kind.position_width(DIM)
        self.position = parse("position", row.position).build(width, MAX_LEN)
        self.it = kind.build(VOCAB, DIM)

    def __call__(self, x: mx.array, ctx: Context) -> mx.array:
        ctx.position = self.position
        if ctx.layout.types is None and "types" in self.it:
            types = mx.broadcast_to(mx.arange(x.shape[1]) % 2, x.shape)
            ctx.layout = replace(ctx.layout, types=types)
        return self.it(x, ctx)

    def step(self, x: mx.array, state: Any) -> tuple[mx.array, Any]:
        types = mx.broadcast_to((mx.arange(x.shape[1]) + state) % 2, x.shape)
        return self(x, Context(Layout(types=types), cursor=Cursor(offset=state))), state + x.shape[
            1
        ]


class OfHead(Subject):
    width = VOCAB

    def __init__(self, kind: Any, row: Row) -> None:
        super().__init__()
        if getattr(kind, "tied", False):
            self.embedding = parse("embed", {"kind": "token"}).build(VOCAB, kind.width or DIM)
        self.width = getattr(kind, "n_classes", VOCAB)
        self.it = kind.build(VOCAB, DIM)

    def __call__(self, x: mx.array, ctx: Context) -> mx.array:
        return self.it(x, self.embedding.table if "embedding" in self else None)


class OfModel(Subject):
    tokens, width = True, VOCAB

    def __init__(self, kind: Any, row: Row) -> None:
        super().__init__()
        self.it = kind.build(VOCAB)

    def __call__(self, x: mx.array, ctx: Context) -> mx.array:
        return self.it(x, ctx)

    def init_state(self, batch: int, length: int, dtype: mx.Dtype = mx.float32) -> Any:
        return self.it.init_state(batch, length, dtype)

    def step(self, x: mx.array, state: Any) -> tuple[mx.array, Any]:
        return self.it.step(x, state)


class OfPair(OfModel):
    """The target of an encoder-decoder beside a source that stays the same."""

    def source(self, batch: int) -> mx.array:
        return mx.broadcast_to(mx.array([[3, 1, 4, 1, 5, 9]]), (batch, 6))

    def __call__(self, x: mx.array, ctx: Context) -> mx.array:
        return self.it(self.source(x.shape[0]), x, ctx)

    def init_state(self, batch: int, length: int, dtype: mx.Dtype = mx.float32) -> Any:
        return self.it.init_state(batch, length, dtype, given={"source": self.source(batch)})


class OfElectra(OfModel):
    """What both of a pair say of the same tokens, one beside the other's logits."""

    def __call__(self, x: mx.array, ctx: Context) -> mx.array:
        own = replace(ctx, key=ctx.next_key() if ctx.training else None)
        return self.it.generator(x, own) + self.it(x, ctx)


class OfVision(OfModel):
    """The vectors of a picture whose patches are its pixels, read as a row of numbers."""

    width = DIM

    def __init__(self, kind: Any, row: Row) -> None:
        super().__init__(kind, row)
        self.width = kind.dim


class OfMae(OfModel):
    """The pixels of a picture, each a patch, as they are rebuilt."""

    width = 1


class OfSpeech(OfPair):
    """Text beside a sound that stays the same."""

    def source(self, batch: int) -> mx.array:
        frames = mx.array(np.random.default_rng(5).standard_normal((1, 6, 3)).astype(np.float32))
        return mx.broadcast_to(frames, (batch, 6, 3))

    def init_state(self, batch: int, length: int, dtype: mx.Dtype = mx.float32) -> Any:
        return self.it.init_state(batch, length, dtype, given={"frames": self.source(batch)})


class OfEvoformer(OfModel):
    """The logits of letters beside those of all pairs."""

    def __call__(self, x: mx.array, ctx: Context) -> mx.array:
        letters = self.it(x, ctx)
        return letters + self.it.pooled(letters, ctx).sum(axis=(1, 2, 3))[:, None, None]


class OfVlm(OfModel):
    """Text of a language model whose image tokens are patches of pictures that stay the same."""

    def pixels(self, batch: int) -> mx.array:
        shape = (1, 3, 3, 1)
        drawn = mx.array(np.random.default_rng(6).standard_normal(shape).astype(np.float32))
        return mx.broadcast_to(drawn, (batch, *shape[1:]))

    def inputs(self, batch: int = BATCH, length: int = LENGTH, seed: int = 1) -> mx.array:
        """Tokens of text and, at the front, two image tokens."""
        tokens = np.array(super().inputs(batch, length, seed)) % 5
        tokens[:, :2] = self.it.image_token
        return mx.array(tokens)

    def disturb(self, x: mx.array) -> mx.array:
        return mx.where(x == self.it.image_token, x, (x + 1) % 5)

    def __call__(self, x: mx.array, ctx: Context) -> mx.array:
        return self.it(x, ctx, self.pixels(len(x)))

    def init_state(self, batch: int, length: int, dtype: mx.Dtype = mx.float32) -> Any:
        return self.it.init_state(batch, length, dtype, given={"pixels": self.pixels(batch)})


class OfClip(OfModel):
    """The vectors of a text beside those of a picture that stays the same."""

    width = DIM

    def __call__(self, x: mx.array, ctx: Context) -> mx.array:
        pixels = mx.broadcast_to(mx.arange(9).reshape(1, 3, 3, 1), (len(x), 3, 3, 1))
        seen = self.it.encode_image(pixels, Context(key=ctx.split_key()))
        return self.it.features(self.it.embedded({"tokens": x}, ctx), ctx) + seen[:, None]


class OfWords(OfModel):
    """Vectors of words as they are given, beside those as they are predicted."""

    def __init__(self, kind: Any, row: Row) -> None:
        super().__init__(kind, row)
        self.width = kind.dim

    def __call__(self, x: mx.array, ctx: Context) -> mx.array:
        return self.it(x, ctx) + 2 * self.it.predicted(x)


class OfVqvae(OfModel):
    """The pixels of a picture painted from the vectors of its patches, which are not quantized: a
    code often stays the same when a pixel changes."""

    width = 1

    def __call__(self, x: mx.array, ctx: Context) -> mx.array:
        painted = self.it.decoded(self.it.encoded(x, ctx), ctx)
        return painted.reshape(*x.shape, 1)


class OfPool(Subject):
    """The answer for a sequence, said at each of its places."""

    def __init__(self, kind: Any, row: Row) -> None:
        super().__init__()
        self.it = kind.build(DIM)
        scalar = kind.kind == "scalar"
        width = getattr(kind, "n_classes", None) or getattr(kind, "width", None) or DIM
        self.width = 1 if scalar else width

    def __call__(self, x: mx.array, ctx: Context) -> mx.array:
        y = self.it(x, ctx)
        y = y.mean(axis=(1, 2)) if y.ndim == 4 else y  # classes of pairs
        y = y[:, None] if y.ndim == 1 else y
        return mx.broadcast_to(y[:, None], (*x.shape[:2], self.width))


def of_model(kind: Any, row: Row) -> Subject:
    subjects = {
        "seq2seq": OfPair,
        "detect_replaced": OfElectra,
        "see": OfVision,
        "rebuild": OfMae,
        "match": OfClip,
        "listen": OfSpeech,
        "word_vectors": OfWords,
        "reconstruct": OfVqvae,
    }
    own = {"vlm": OfVlm, "evoformer": OfEvoformer}
    if kind.kind in own:
        return own[kind.kind](kind, row)
    (task,) = kind.tasks
    return subjects.get(task, OfModel)(kind, row)


def earlier(x: mx.array) -> dict[str, mx.array]:
    """What a layer below left for this one: values of the first RWKV-7 layer."""
    return {FIRST_VALUES: mx.tanh(x[..., ::-1])}


def memory(batch: int, dtype: mx.Dtype) -> mx.array:
    """What cross attention reads, the same for every row: `[B, 5, D]`."""
    made = np.random.default_rng(9).standard_normal((1, 5, DIM)).astype(np.float32)
    return mx.broadcast_to(mx.array(made), (batch, 5, DIM)).astype(dtype)


SUBJECTS: dict[str, Callable[[Any, Row], Subject]] = {
    "mixer": OfMixer,
    "block": OfBlock,
    "ahead": OfAhead,
    "align": OfAlign,
    "cell": OfCell,
    "recurrence": OfCell,
    "ffn": OfFfn,
    "norm": OfNorm,
    "depth": OfDepth,
    "router": OfRouter,
    "position": OfPosition,
    "scaling": OfScaling,
    "embed": OfEmbed,
    "head": OfHead,
    "pool": OfPool,
    "model": of_model,
}
"""How the kinds of each slot are surrounded. Slots whose kinds are no modules aren't here."""


def difference(a: mx.array, b: mx.array) -> float:
    """The largest absolute difference."""
    return float(mx.abs(a.astype(mx.float32) - b.astype(mx.float32)).max())


def round_trip(config: Config) -> Config:
    """The config after a way through plain data and through JSON."""
    adapter = TypeAdapter(type(config))
    plain = type(config).model_validate(config.model_dump())
    assert plain == config
    return adapter.validate_json(config.model_dump_json())
