"""Mixture of experts (MoE): a router, and the experts that it chooses for each token."""

from typing import Annotated, Any, Literal

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten
from pydantic import Field, model_validator

from ...core.context import Context
from ...core.footprint import ActivationShape
from ...core.shapes import xD
from ...ops.expert_slots import Slots
from ...ops.grouped_matmul import Dispatch
from ...ops.second_choices import normalised
from ...recipe.slot import Slot
from ..kinds import FfnKind, RouterKind
from ..linear import ResidualLinear, expert_rows
from ..token_masks import real_tokens
from .capacity import Capacity
from .expert import expert_factories, stackable


class Moe(FfnKind):
    """A mixture of E experts, of which a router chooses a few for each token.

    `y = Σ_{e in chosen} gate_e · ffn_e(x)`; Shazeer et al. 2017, equation 1; Mixtral (Jiang et
    al. 2024), section 2.1. Computed sparsely: only the chosen experts run on a token, and no token
    is dropped unless experts have slots or a capacity (Fedus et al. 2021). A shared expert that
    runs on all tokens can be added, `+ [sigmoid(w x) ·] ffn_s(x)`: DeepSeekMoE (Dai et al. 2024),
    section 3.2; its gate is Qwen 2's.
    """

    kind: Literal["moe"] = "moe"
    n_experts: int = Field(ge=1)
    """Experts E."""
    router: Annotated[RouterKind, Slot("router")]
    """The router, which chooses experts for each token."""
    expert: Annotated[FfnKind, Slot("ffn")]
    """The network of each expert: an `mlp`, a `glu` or a `clamped_glu`."""
    shared: Annotated[FfnKind, Slot("ffn")] | None = None
    """The shared expert, which runs on every token; none means no shared expert."""
    shared_gate: bool = False
    """Whether a sigmoid gate weighs the shared expert."""
    capacity: int | None = Field(None, ge=1)
    """Expert capacity: tokens of a row that an expert takes in one pass; later ones skip it
    (Switch, section 2.2). None means no limit. A token decoded alone is always taken."""
    slots: Capacity | None = None
    """Slots of the experts for a group of tokens, by a capacity factor; the tokens that a full
    expert drops skip it. None means that no token is dropped."""
    weighs: Literal["outputs", "inputs"] = "outputs"
    """Whether gates multiply the outputs of the experts, or their inputs, `Σ ffn_e(gate_e · x)`
    (Llama 4)."""
    latent: int | None = Field(None, ge=1)
    """Width of a projection of x on which the experts work, `W_up Σ gate_e · ffn_e(W_down x)`, so
    that more of them cost as much (LatentMoE of Nemotron 3, NVIDIA 2025); none means x itself."""

    @model_validator(mode="after")
    def _gate_has_a_use(self) -> "Moe":
        if self.shared_gate and self.shared is None:
            raise ValueError("shared_gate has no effect without shared.")
        if self.capacity is not None and self.slots is not None:
            raise ValueError(
                "capacity is a number of tokens and slots.factor a share of them: set one of the "
                "two, and unset the other."
            )
        if self.weighs == "inputs" and (self.capacity or self.slots) is not None:
            raise ValueError(
                "weighs = 'inputs' goes without capacity and slots: an expert with a bias would "
                "answer the tokens that it drops. Unset them, or choose 'outputs'."
            )
        return self

    def build(self, dim: int) -> "MoeFfn":
        return MoeFfn(self, dim)

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Input, router, the experts on their rows, and their outputs before they are summed."""
        k = self.router.top_k
        rows = Dispatch.n_rows(at.tokens * k, self.n_experts, at.cpu) / at.tokens
        outputs = float(k)
        if self.slots is not None:
            rows = outputs = self.slots.rows_per_token(at, self.n_experts)
        width = self.latent or dim
        experts = rows * self.expert.saved_bytes(width, at)
        if self.weighs == "inputs":
            experts += rows * width * at.itemsize  # before their gates
        if self.latent is not None:
            experts += 2 * width * at.itemsize  # below, and their sum
        router = self.router.saved_bytes(self.n_experts)
        shared = 0.0
        if self.shared is not None:
            shared = self.shared.saved_bytes(dim, at) - dim * at.itemsize
            shared += dim * at.itemsize if self.shared_gate else 0
        return (dim + width * outputs) * at.itemsize + experts + router + shared


class MoeFfn(nn.Module):
    """`(x [B, T, D], ctx) -> [B, T, D]`; the router's losses and loads go to the context."""

    def __init__(self, config: Moe, dim: int) -> None:
        super().__init__()
        self.n_experts, self.capacity = config.n_experts, config.capacity
        self.top_k, self.slots = config.router.top_k, config.slots
        self.weighs_inputs = config.weighs == "inputs"
        self.router = config.router.build(dim, config.n_experts)
        self.experts = stackable(config.expert).build_experts(
            config.latent or dim, *expert_factories(config.n_experts)
        )
        if config.latent is not None:
            self.latent_down = nn.Linear(dim, config.latent, bias=False)
            self.latent_up = ResidualLinear(config.latent, dim, bias=False)
        if config.shared is not None:
            self.shared = config.shared.build(dim)
        if config.shared_gate:
            self.shared_gate = nn.Linear(dim, 1, bias=False)

    def idle_parameters(self) -> int:
        """Parameters of the experts that a token does not choose."""
        stacked = sum(value.size for _, value in tree_flatten(self.experts.parameters()))
        return stacked - stacked * self.top_k // self.n_experts

    def __call__(self, x: xD, ctx: Context) -> xD:
        slots = self.slots
        factor = None if slots is None else slots.active(ctx)
        if slots is None or factor is None:
            y = self._dropless(x, ctx)
        else:
            y = self._slotted(x, slots, factor, ctx)
        if "shared" not in self:
            return y
        always = self.shared(x, ctx)
        return y + (mx.sigmoid(self.shared_gate(x)) * always if "shared_gate" in self else always)

    def _dropless(self, x: mx.array, ctx: Context) -> mx.array:
        """Every choice is computed, whatever the load."""
        rows = x if self.slots is None else self.slots.grouped(x)
        flat = x.reshape(-1, x.shape[-1])
        gates, choice = (array.reshape(flat.shape[0], -1) for array in self.router(rows, ctx))
        if self.capacity is not None:
            rank = self._rank(choice, x.shape[1], real_tokens(ctx, x.shape[1]))
            gates = mx.where(rank <= self.capacity, gates, 0)
        self._show(gates, choice, x, ctx)
        dispatch = Dispatch(choice, self.n_experts)
        inputs = dispatch.gather(self._below(flat))
        if self.weighs_inputs:
            inputs = inputs * dispatch.spread(gates).astype(inputs.dtype)
            gates = mx.ones_like(gates)
        out = self._experts(dispatch, inputs, ctx)
        return self._above(dispatch.combine(out, gates)).reshape(x.shape)

    def _below(self, x: mx.array) -> mx.array:
        """The input of the experts, `[..., D]` or `[..., latent]`."""
        return self.latent_down(x) if "latent_down" in self else x

    def _above(self, y: mx.array) -> mx.array:
        """The sum of the experts' outputs on the residual stream, `[..., D]`."""
        return self.latent_up(y) if "latent_up" in self else y

    def _show(self, gates: mx.array, choice: mx.array, x: mx.array, ctx: Context) -> None:
        """Show an observer the gate of each expert, zero where it isn't chosen."""
        if ctx.collected.observer is not None:
            chosen = (choice[..., None] == mx.arange(self.n_experts)).astype(gates.dtype)
            dense = (chosen * gates[..., None]).sum(axis=-2)
            ctx.collected.observe("gates", dense.reshape(*x.shape[:2], self.n_experts))

    def _slotted(self, x: mx.array, slots: Capacity, factor: float, ctx: Context) -> mx.array:
        """Choices beyond the slots of an expert are dropped."""
        grouped = slots.grouped(x)
        gates, choice = self.router(grouped, ctx)
        routed = mx.stop_gradient(gates) > 0
        valid = real_tokens(ctx, x.shape[1])
        if valid is not None:
            routed = routed & valid.reshape(*grouped.shape[:2], 1)
        assigned = slots.fill(choice, gates, routed, self.n_experts, factor)
        kept = assigned.kept()
        self._show(mx.where(kept, gates, 0.0), choice, x, ctx)
        dropped = 1.0 - kept.sum() / mx.maximum(routed.sum(), 1)
        ctx.collected.add_stat("dropped", dropped.astype(mx.float32))
        if slots.renormalize:
            gates = normalised(mx.where(kept, gates, 0.0))
        out = self._experts(assigned, assigned.gather(self._below(grouped)), ctx)
        return self._above(assigned.combine(out, gates)).reshape(x.shape)

    def _experts(self, dispatch: Dispatch | Slots, rows: mx.array, ctx: Context) -> mx.array:
        """The experts' networks on their rows."""

        def apply(layer: Any, h: mx.array) -> mx.array:
            return expert_rows(layer, h, dispatch.linear)

        return self.experts(rows, ctx, apply)

    def _rank(self, choice: mx.array, length: int, valid: mx.array | None) -> mx.array:
        """The rank `[N, k]`, from 1, of a token among the real ones of its row with the same
        expert; `valid [B, T]` marks these, None: all."""
        chosen = choice[..., None] == mx.arange(self.n_experts)
        by_token = chosen.any(axis=1).reshape(-1, length, self.n_experts)
        by_token = by_token if valid is None else by_token & valid[..., None]
        before = mx.cumsum(by_token.astype(mx.int32), axis=1).reshape(choice.shape[0], -1)
        return mx.take_along_axis(before, choice, axis=1)
