"""Time mixing of RWKV-5 and RWKV-6."""

from typing import ClassVar, Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field, model_validator

from ...core.context import Context
from ...core.footprint import FLOAT32_BYTES, ActivationShape
from ...ops.linear_attention import linear_attention_flops
from ..head_norm import HeadNorm
from ..kinds import MixerKind
from ..linear import ResidualLinear
from ..parameter import Role
from .head_states import Chunk, decayed_attention, heads_of_width, split_heads
from .shifted_state import ShiftedStateMixer

MIXED = ("w", "k", "v", "r", "g")
"""The shifted inputs of decay, key, value, receptance and gate, in the published order."""


class Rwkv6(MixerKind):
    """RWKV-6's time mixing: a matrix state per head, with decays computed from the input.

        x^□ = x_t + (x_{t-1} - x_t) (μ_□ + tanh((x_t + (x_{t-1} - x_t) μ_x) A) B_□)
        g_t = -exp(w_0 + tanh(x^w C) D)          S_t = diag(exp g_t) S_{t-1} + k_t v_tᵀ
        y_t = W_o (norm((S_{t-1} + diag(u) k_t v_tᵀ)ᵀ r_t) · silu(W_g x^g))

    Peng et al. 2024, "Eagle and Finch: RWKV with Matrix-Valued States and Dynamic Recurrence",
    equations 14 to 19. Without ranks neither shares nor decays depend on the input: RWKV-5.
    Vectors start as in the first layer of the published code.
    """

    kind: Literal["rwkv6"] = "rwkv6"
    head_dim: int = Field(64, ge=1)
    """Width of a head."""
    mix_rank: int | None = Field(32, ge=1)
    """Rank of A and B; none means fixed shares, which goes with fixed decays."""
    decay_rank: int | None = Field(64, ge=1)
    """Rank of C and D; none means fixed decays."""
    divisor: float = Field(8.0, gt=0)
    """Divides the heads before they are normalised, which counts against the norm's eps of 1e-5."""
    chunk: Chunk = 64
    """Tokens that are computed at once in training, a power of two."""

    @model_validator(mode="after")
    def _ranks_go_together(self) -> "Rwkv6":
        if (self.mix_rank is None) != (self.decay_rank is None):
            raise ValueError(
                "mix_rank and decay_rank go together: set both (RWKV-6) or none (RWKV-5)."
            )
        return self

    def build(self, dim: int) -> "Rwkv6Mixer":
        return Rwkv6Mixer(self, dim, heads_of_width(dim, self.head_dim))

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Shifted inputs, projections and decays, and what the output reads."""
        ranks = 5 * (self.mix_rank or 0) + (self.decay_rank or 0)
        low = 7 * dim + 2 * ranks if ranks else 0
        return (13 * dim + low) * at.itemsize + 2 * dim * FLOAT32_BYTES

    def flops(self, dim: int, length: int) -> float:
        """Products within chunks and with states."""
        return linear_attention_flops(
            length,
            n_heads=heads_of_width(dim, self.head_dim),
            key_dim=self.head_dim,
            value_dim=self.head_dim,
            chunk=self.chunk,
            per_feature=True,
        )


class Rwkv6Mixer(ShiftedStateMixer):
    """`(x [B, T, D], ctx) -> [B, T, D]`; the state is the last input and a matrix per head."""

    roles: ClassVar[dict[str, Role]] = {
        **{f"mix_{name}": "vector" for name in ("x", *MIXED)},
        "mix_up": "matrix",
        "decay": "own",
        "bonus": "own",
    }

    def __init__(self, config: Rwkv6, dim: int, n_heads: int) -> None:
        super().__init__(dim, n_heads)
        self.chunk, self.rank = config.chunk, config.mix_rank
        self.names = MIXED if config.mix_rank else MIXED[1:]
        share = 1 - mx.arange(dim) / dim
        for name in self.names:
            self[f"mix_{name}"] = share
        if config.mix_rank and config.decay_rank:
            self.mix_x = share
            self.mix_down = nn.Linear(dim, len(MIXED) * config.mix_rank, bias=False)
            self.mix_up = mx.zeros((len(MIXED), dim, config.mix_rank))
            self.decay_down = nn.Linear(dim, config.decay_rank, bias=False)
            self.decay_up = nn.Linear(config.decay_rank, dim, bias=False)
        index = mx.arange(dim)
        self.decay = 5 * (index / max(dim - 1, 1)) ** 0.7 - 6
        self.bonus = (0.1 * ((index + 1) % 3 - 1)).reshape(n_heads, -1)
        self.r, self.k, self.v, self.g = (nn.Linear(dim, dim, bias=False) for _ in range(4))
        self.norm = HeadNorm(dim, 1e-5 * config.divisor**2, bias=True)
        self.o = ResidualLinear(dim, dim, bias=False)

    def _mix(
        self, taps: list[mx.array], state: mx.array | None, ctx: Context
    ) -> tuple[mx.array, mx.array]:
        mixed = self._mixed(*taps)
        decay = self.decay.astype(mx.float32)
        if "decay_up" in self:
            decay = decay + self.decay_up(mx.tanh(self.decay_down(mixed["w"]))).astype(mx.float32)
        layers = ((self.r, "r"), (self.k, "k"), (self.v, "v"))
        r, k, v = (split_heads(layer(mixed[name]), self.n_heads) for layer, name in layers)
        decay = split_heads(mx.broadcast_to(-mx.exp(decay), taps[1].shape), self.n_heads)
        reads = {"scale": 1.0, "before": True, "bonus": self.bonus, "chunk": self.chunk}
        out, state = decayed_attention(r, k, v, decay, state, ctx, **reads)
        return self.o(self.norm(out) * nn.silu(self.g(mixed["g"]))), state

    def _mixed(self, before: mx.array, x: mx.array) -> dict[str, mx.array]:
        """The inputs mixed with the last ones, by the name of what reads them."""
        delta = before - x
        shares = {name: self[f"mix_{name}"] for name in self.names}
        if self.rank is not None:
            low = mx.tanh(self.mix_down(x + delta * self.mix_x))
            low = low.reshape(*x.shape[:2], len(MIXED), 1, self.rank)
            more = low @ self.mix_up.swapaxes(1, 2)
            shares = {name: shares[name] + more[:, :, i, 0] for i, name in enumerate(MIXED)}
        return {name: x + delta * share for name, share in shares.items()}
