"""Soft mixture of experts."""

from typing import Annotated, Any, ClassVar, Literal

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten
from pydantic import Field

from ...core.context import Context
from ...core.footprint import FLOAT32_BYTES, ActivationShape
from ...core.shapes import BTD
from ...ops.expert_slots import stacked_linear
from ...ops.soft_moe import soft_slots, unit
from ...recipe.slot import Slot
from ..kinds import FfnKind, NormKind
from ..linear import expert_rows
from ..parameter import Role
from .expert import expert_factories, stackable


class SoftMoe(FfnKind):
    """Experts that read slots, weighted means of all tokens, so that none is dropped.

    Puigcerver et al. 2023, equations 1 to 3 and algorithm 1: `logits = scale · x̂ φ̂ᵀ` with rows of
    unit length. With `norm` (soft-moe-pytorch) x and the slots are normalised by one of their own
    each instead. Every output depends on every token of its row, later ones too: for encoders.
    """

    kind: Literal["soft_moe"] = "soft_moe"
    causal: ClassVar[bool] = False
    n_experts: int = Field(ge=1)
    """Experts E."""
    slots: int = Field(1, ge=1)
    """Slots of each expert, for a row. The work is that of E times as many tokens."""
    expert: Annotated[FfnKind, Slot("ffn")]
    """The network of each expert: an `mlp`, a `glu` or a `clamped_glu`."""
    norm: Annotated[NormKind, Slot("norm")] | None = None
    """The normalisation of tokens and slots before their products; none means unit length and one
    learned scale, as in the paper."""
    reads_normed: bool = False
    """Whether slots are means of the normalised tokens (soft-moe-pytorch) or of the tokens."""

    def build(self, dim: int) -> "SoftMoeFfn":
        return SoftMoeFfn(self, dim)

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Input, the weights of tokens and slots, the slots' inputs, experts, and outputs."""
        n_slots = self.n_experts * self.slots
        share = n_slots / at.length
        norm = dim * at.itemsize if self.norm is None else self.norm.saved_bytes(dim, at)
        weights = 2 * n_slots * FLOAT32_BYTES
        experts = share * (self.expert.saved_bytes(dim, at) + dim * at.itemsize)
        return dim * at.itemsize + norm + weights + experts

    def flops(self, dim: int, length: int) -> float:
        """Logits, means of tokens, means of slots, and experts on slots instead of tokens."""
        n_slots = self.n_experts * self.slots
        experts = stackable(self.expert).build_experts(dim, *expert_factories(self.n_experts))
        arrays = [value for _, value in tree_flatten(experts.parameters())]
        weights = sum(value.size for value in arrays if value.ndim > 2)
        # the count that this is added to has every token meet all weights, the slots' too
        return 4.0 * n_slots * dim + 2.0 * weights * (self.slots / length - 1)


class SoftMoeFfn(nn.Module):
    """`(x [B, T, D], ctx) -> [B, T, D]`, which mixes all tokens of a row."""

    roles: ClassVar[dict[str, Role]] = {"slots": "table", "scale": "own"}

    def __init__(self, config: SoftMoe, dim: int) -> None:
        super().__init__()
        self.reads_normed = config.reads_normed
        self.slots = mx.random.normal((config.n_experts, config.slots, dim)) * dim**-0.5
        if config.norm is None:
            self.scale = mx.ones((1,))
        else:
            self.norm, self.slot_norm = config.norm.build(dim), config.norm.build(dim)
        factories = expert_factories(config.n_experts)
        self.experts = stackable(config.expert).build_experts(dim, *factories)

    def __call__(self, x: BTD, ctx: Context) -> BTD:
        n_experts, per_expert, dim = self.slots.shape
        B = x.shape[0]
        if "scale" in self:
            tokens, slots = unit(x), unit(self.slots) * self.scale
        else:
            tokens, slots = self.norm(x), self.slot_norm(self.slots)
        logits = tokens.astype(mx.float32) @ slots.reshape(-1, dim).T.astype(mx.float32)
        read = tokens.astype(x.dtype) if self.reads_normed else x
        rows, combine = soft_slots(read, logits, ctx.layout.valid)
        rows = rows.reshape(B, n_experts, per_expert, dim).swapaxes(0, 1)

        def apply(layer: Any, h: mx.array) -> mx.array:
            return expert_rows(layer, h, stacked_linear)

        out = self.experts(rows.reshape(n_experts, -1, dim), ctx, apply)
        out = out.reshape(n_experts, B, per_expert, dim).swapaxes(0, 1).reshape(B, -1, dim)
        return combine @ out
