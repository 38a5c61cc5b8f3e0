"""Attention and ffn that several layers share, in front of a mixer of their own (Zamba)."""

from collections.abc import Iterable
from typing import Annotated, Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field

from ...core.context import Context
from ...core.footprint import ActivationShape
from ...core.shapes import BTD
from ...ops.glu import glu
from ...ops.unstack import split_last
from ...recipe.slot import Slot
from ..ffns.mlp import Activation
from ..kinds import Mixer, MixerKind, NormKind, ScoreBias, State, joint_score_bias
from ..linear import ResidualLinear, matrix
from .attention import Attention

EMBEDDED = "embedded"
"""The name under which a stack leaves its own input, `[B, T, D]`, for its layers."""


class SharedBlock(MixerKind):
    """`y = mixer(norm(x + W ffn(norm(attention(norm([x, e]))))))`, e the input of the stack.

    Glorioso et al. 2024, Zamba2 ([arXiv:2411.15242](https://arxiv.org/abs/2411.15242)), section 2.
    Attention and ffn have no residual connection. They belong to the first `n_blocks` such layers
    of a stack; the others borrow them by turns, each with its own W and low-rank adapter of the
    ffn. The block around has `norm.kind = "none"`, since the norm is here.
    """

    kind: Literal["shared_block"] = "shared_block"
    attention: Attention
    """Attention over [x, e], of twice the width of the model."""
    hidden_dim: int = Field(ge=1)
    """Width F of the gated ffn."""
    activation: Activation = "gelu"
    """The activation of its gate."""
    bias: bool = False
    """Whether its projections have a bias."""
    adapter_rank: int | None = Field(None, ge=1)
    """Rank of each layer's own adapter of the ffn; none means no adapter."""
    n_blocks: int = Field(1, ge=1)
    """Blocks of a stack, which its layers borrow by turns."""
    norm: Annotated[NormKind, Slot("norm")]
    """The normalisation before attention, before the ffn, and before the mixer."""
    mixer: Annotated[MixerKind, Slot("mixer")]
    """The layer's own mixer."""

    @property
    def score_bias(self) -> ScoreBias:
        """The score bias of attention and the layer's own mixer together."""
        return joint_score_bias(self.attention, self.mixer)

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Bytes of attention, ffn and mixer, and of the norms before them."""
        inner = self.attention.saved_bytes(2 * dim, at) + self.mixer.saved_bytes(dim, at)
        norms = self.norm.saved_bytes(2 * dim, at) + 2 * self.norm.saved_bytes(dim, at)
        low = self.adapter_rank or 0
        return inner + norms + (2 * dim + 3 * self.hidden_dim + low) * at.itemsize

    def backward_bytes(self, dim: int, at: ActivationShape) -> float:
        """Bytes of the mixer; attention computes no states again."""
        return self.mixer.backward_bytes(dim, at)

    def flops(self, dim: int, length: int) -> float:
        """Products of attention and of the mixer."""
        return self.attention.flops(2 * dim, length) + self.mixer.flops(dim, length)

    def build(self, dim: int) -> "SharedBlockMixer":
        return SharedBlockMixer(self, dim)


class SharedLayers(nn.Module):
    """The shared part: `([x, e] [B, T, 2 D], attend, adapter) -> [B, T, D]`."""

    def __init__(self, config: SharedBlock, dim: int) -> None:
        super().__init__()
        self.activation = config.activation
        self.attention_norm = config.norm.build(2 * dim)
        self.attention = config.attention.build(2 * dim)
        inner = matrix(self.attention.o).shape[1]
        self.attention.o = ResidualLinear(inner, dim, bias=config.attention.out_bias)
        self.ffn_norm = config.norm.build(dim)
        self.gate_up = nn.Linear(dim, 2 * config.hidden_dim, bias=config.bias)
        self.down = ResidualLinear(config.hidden_dim, dim, bias=config.bias)

    def ffn(self, x: mx.array, adapted: mx.array | None) -> mx.array:
        """The gated ffn; `adapted [B, T, 2 F]` is added to gate and value."""
        both = self.gate_up(self.ffn_norm(x))
        gate, up = split_last(both if adapted is None else both + adapted, 2)
        y: mx.array = self.down(glu(gate, up, self.activation))
        return y


class Lender:
    """Refers to the shared part of another layer, whose parameters are counted there."""

    def __init__(self, layers: SharedLayers) -> None:
        self.layers = layers


class SharedBlockMixer(nn.Module):
    """`(x [B, T, D], ctx) -> [B, T, D]`; the decode state has those of `attention` and `mixer`."""

    def __init__(self, config: SharedBlock, dim: int) -> None:
        super().__init__()
        self.config = config
        self.shared = SharedLayers(config, dim)
        self.lender: Lender | None = None
        self.out = nn.Linear(dim, dim, bias=False)
        self.norm = config.norm.build(dim)
        self.mixer = config.mixer.build(dim)
        if config.adapter_rank is not None:
            self.adapter_down = nn.Linear(dim, config.adapter_rank, bias=False)
            self.adapter_up = nn.Linear(config.adapter_rank, 2 * config.hidden_dim, bias=False)

    def borrow(self, owner: "SharedBlockMixer") -> None:
        """Drop the own attention and ffn, and use those of another layer."""
        del self.shared
        self.lender = Lender(owner.layers())

    def layers(self) -> SharedLayers:
        """The attention and ffn that the layer uses."""
        layers: SharedLayers = self.shared if self.lender is None else self.lender.layers
        return layers

    def __call__(self, x: BTD, ctx: Context) -> BTD:
        shared = self.layers()
        h = shared.attention(shared.attention_norm(self._beside(x, ctx)), ctx)
        y: mx.array = self.mixer(self._joined(x, h), ctx)
        return y

    def init_state(self, batch: int, length: int, dtype: mx.Dtype) -> State:
        """The states of attention and mixer."""
        return {
            "attention": self.layers().attention.init_state(batch, length, dtype),
            "mixer": self.mixer.init_state(batch, length, dtype),
        }

    def step(self, x: BTD, state: State, ctx: Context) -> tuple[BTD, State]:
        """Continue by the T tokens of `x`."""
        shared = self.layers()
        beside = shared.attention_norm(self._beside(x, ctx))
        h, attention = shared.attention.step(beside, state["attention"], ctx)
        y, mixer = self.mixer.step(self._joined(x, h), state["mixer"], ctx)
        return y, {"attention": attention, "mixer": mixer}

    def _beside(self, x: mx.array, ctx: Context) -> mx.array:
        """[x, e]; a layer alone is its own stack."""
        return mx.concatenate([x, ctx.earlier.get(EMBEDDED, x)], axis=-1)

    def _joined(self, x: mx.array, h: mx.array) -> mx.array:
        """The input of the mixer, from attention's output `h`."""
        shared = self.layers()
        adapted = None
        if "adapter_down" in self:
            adapted = self.adapter_up(self.adapter_down(shared.ffn_norm(h)))
        y: mx.array = self.norm(x + self.out(shared.ffn(h, adapted)))
        return y


def share_blocks(mixers: Iterable[Mixer]) -> None:
    """Let the shared-block mixers of a stack use the first `n_blocks` of them by turns."""
    shared = [mixer for mixer in mixers if isinstance(mixer, SharedBlockMixer)]
    for i, mixer in enumerate(shared):
        if i >= mixer.config.n_blocks:
            mixer.borrow(shared[i % mixer.config.n_blocks])
