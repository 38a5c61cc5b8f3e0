"""Pieces of mixers whose heads keep a matrix of keys by values."""

from typing import Annotated, Any, TypedDict

import mlx.core as mx
import mlx.nn as nn
from pydantic import AfterValidator, Field

from ...core.context import Context
from ...core.errors import RecipeError
from ...core.footprint import FLOAT32_BYTES
from ...core.shapes import BTD
from ...ops.activations import ACTIVATIONS
from ...ops.chunks import document_starts
from ...ops.linear_attention import linear_attention
from ..ffns.mlp import Activation
from ..kinds import NormKind, State
from ..linear import ResidualLinear
from ..token_masks import real_tokens


def _power_of_two(chunk: int) -> int:
    if chunk & (chunk - 1):
        lower = 1 << (chunk.bit_length() - 1)
        raise ValueError(
            f"a chunk of {chunk} tokens is no power of two: choose {lower} or {2 * lower}."
        )
    return chunk


Chunk = Annotated[int, Field(ge=1), AfterValidator(_power_of_two)]
"""Tokens that are computed at once in training, a power of two; it changes speed and memory, not
the result. Rows need not divide by it."""


def width_of_heads(field: str, width: int, n_heads: int) -> int:
    """The width of one of `n_heads` heads, `width` together.

    Raises:
        RecipeError: they don't divide; `field` is the key of the width.
    """
    if width % n_heads:
        raise RecipeError(
            f"mixer.n_heads = {n_heads} does not divide {field} = {width}, so no head width "
            "follows. Choose a divisor."
        )
    return width // n_heads


def heads_of_width(dim: int, head_dim: int) -> int:
    """The number of heads of width `head_dim` that a residual stream of width `dim` makes.

    Raises:
        RecipeError: they don't divide.
    """
    if dim % head_dim:
        raise RecipeError(
            f"mixer.head_dim = {head_dim} does not divide model.dim = {dim}, so no number of "
            "heads follows. Choose a divisor."
        )
    return dim // head_dim


def split_heads(x: mx.array, n_heads: int) -> mx.array:
    """`[B, T, H * K]` as `[B, H, T, K]`."""
    return x.reshape(*x.shape[:2], n_heads, -1).transpose(0, 2, 1, 3)


def zero_state(batch: int, n_heads: int, key_dim: int, value_dim: int) -> State:
    """The state before the first token, `[B, H, K, V]`: float32, since it sums many tokens."""
    return {"s": mx.zeros((batch, n_heads, key_dim, value_dim), mx.float32)}


class RowFacts(TypedDict):
    """Arguments of the recurrences of `ops`: starts of documents and real tokens, `[B, T]`."""

    starts: mx.array | None
    valid: mx.array | None


def row_facts(ctx: Context, length: int) -> RowFacts:
    """The facts of rows of T = `length` tokens, of a sequence or of a decoding step."""
    return {"starts": document_starts(ctx.layout.segments), "valid": real_tokens(ctx, length)}


def decayed_attention(
    q: mx.array,
    k: mx.array,
    v: mx.array,
    log_decay: mx.array,
    state: mx.array | None,
    ctx: Context,
    **options: Any,
) -> tuple[mx.array, mx.array]:
    """`linear_attention` over the rows of a pass; an observer sees the weights that it implies.

    Args:
        q, k, v, log_decay, state: its arguments.
        ctx: the context of the pass.
        options: its `scale`, `chunk`, `before` and `bonus`.

    Returns:
        The output `[B, H, T, V]`, and the last state `[B, H, K, V]`.
    """
    facts = row_facts(ctx, v.shape[2])

    def mix(values: mx.array) -> tuple[mx.array, mx.array]:
        return linear_attention(q, k, values, log_decay, state=state, **facts, **options)

    ctx.collected.observe_weights("implied", lambda values: mix(values)[0], v)
    return mix(v)


class MatrixStateMixer(nn.Module):
    """A mixer whose decode state is one matrix `[K, V]` per head, carried by `_mix`."""

    n_heads: int
    key_dim: int
    value_dim: int

    def __call__(self, x: BTD, ctx: Context) -> BTD:
        return self._mix(x, None, ctx)[0]

    def init_state(self, batch: int, length: int, dtype: mx.Dtype) -> State:
        """Zeros."""
        return zero_state(batch, self.n_heads, self.key_dim, self.value_dim)

    def step(self, x: BTD, state: State, ctx: Context) -> tuple[BTD, State]:
        """Continue by the T tokens of `x`."""
        y, s = self._mix(x, state["s"], ctx)
        return y, {"s": s}

    def _mix(self, x: mx.array, state: mx.array | None, ctx: Context) -> tuple[mx.array, mx.array]:
        """The output `[B, T, D]`, and the state after x; None is the state of no tokens."""
        raise NotImplementedError


class HeadOutput(nn.Module):
    """`W_o (norm(o) · act(W_g x))` of outputs o `[B, H, T, V]`, each head normalised on its own;
    W_g may be a product of two matrices of low rank."""

    def __init__(
        self,
        dim: int,
        n_heads: int,
        value_dim: int,
        norm: NormKind,
        gate: Activation | None,
        rank: int | None = None,
    ) -> None:
        super().__init__()
        self.norm = norm.build(value_dim)
        self.activation = gate
        if gate is not None and rank is not None:
            self.g_down = nn.Linear(dim, rank, bias=False)
        if gate is not None:
            self.g = nn.Linear(rank or dim, n_heads * value_dim, bias=False)
        self.o = ResidualLinear(n_heads * value_dim, dim, bias=False)

    def __call__(self, out: mx.array, x: mx.array) -> mx.array:
        """`[B, T, D]`; x `[B, T, D]` is the input of the mixer."""
        y = self.norm(out.transpose(0, 2, 1, 3)).flatten(-2)
        if self.activation is not None:
            low = self.g_down(x) if "g_down" in self else x
            y = y * ACTIVATIONS[self.activation](self.g(low))
        result: mx.array = self.o(y)
        return result


def output_bytes(width: int, itemsize: int, gate: bool) -> float:
    """Bytes per token that `HeadOutput` saves for `width` values of all heads together."""
    return width * itemsize * (2 if not gate else 5) + FLOAT32_BYTES
