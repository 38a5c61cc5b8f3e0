"""The matrix memory of xLSTM as a mixer."""

from typing import Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field

from ...core.context import Context
from ...core.footprint import FLOAT32_BYTES, ActivationShape
from ...core.shapes import BTD
from ...ops.linear_attention import linear_attention_flops
from ...ops.mlstm import MatrixMemory, mlstm
from ...ops.softcap import soft_cap
from ..gate_linear import GateLinear
from ..head_norm import HeadNorm
from ..kinds import MixerKind, State
from ..linear import ResidualLinear
from .head_states import Chunk, row_facts, split_heads, width_of_heads


class Mlstm(MixerKind):
    """mLSTM: a matrix per head with exponential input gates, a normaliser and an output gate.

        C_t = σ(f_t) C_{t-1} + e^{i_t} k_t v_tᵀ / √K          n_t likewise, with 1 for v_t
        y_t = W_o (σ(W_g x_t) · norm(C_tᵀ q_t / (max(|n_tᵀ q_t|, 1) + eps)))

    Beck et al. 2024, "xLSTM: Extended Long Short-Term Memory", equations 19 to 27; the layer around
    the memory, without convolution and up-projection, and the soft cap of the gates are those of
    xLSTM 7B (Beck et al. 2025, section 2).
    """

    kind: Literal["mlstm"] = "mlstm"
    n_heads: int = Field(ge=1)
    """Heads H."""
    key_dim: int | None = Field(None, ge=1)
    """Width of the queries, and of the keys, of all heads together; none means dim / 2."""
    value_dim: int | None = Field(None, ge=1)
    """Width of the values of all heads together; none means dim."""
    gate_cap: float | None = Field(15.0, gt=0)
    """Soft cap of the input and forget gates, `cap · tanh(x / cap)`; none means no cap."""
    bias: bool = False
    """Whether linear layers and the norm have a bias; the gates always have one."""
    eps: float = Field(1e-6, ge=0)
    """Added to the denominator of the memory's output."""
    norm_eps: float = Field(1e-6, gt=0)
    """Added to the variance of a head before the root."""
    chunk: Chunk = 64
    """Tokens that are computed at once in training, a power of two."""

    def widths(self, dim: int) -> tuple[int, int]:
        """Widths K and V of one head."""
        return (
            width_of_heads("mixer.key_dim", self.key_dim or dim // 2, self.n_heads),
            width_of_heads("mixer.value_dim", self.value_dim or dim, self.n_heads),
        )

    def build(self, dim: int) -> "MlstmMixer":
        return MlstmMixer(self, dim)

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Input, q, k and v, the memory's arguments in float32, and what the output reads."""
        keys, values = self.key_dim or dim // 2, self.value_dim or dim
        inside = (dim + 2 * keys + 6 * values) * at.itemsize
        return inside + (keys + 2 * values + 14 * self.n_heads) * FLOAT32_BYTES

    def flops(self, dim: int, length: int) -> float:
        """Products within chunks and with states."""
        key_dim, value_dim = self.widths(dim)
        return linear_attention_flops(
            length,
            n_heads=self.n_heads,
            key_dim=key_dim,
            value_dim=value_dim + 1,
            chunk=self.chunk,
        )


class MlstmMixer(nn.Module):
    """`(x [B, T, D], ctx) -> [B, T, D]`; the state is a matrix and a scale per head."""

    def __init__(self, config: Mlstm, dim: int) -> None:
        super().__init__()
        self.n_heads, self.chunk, self.eps = config.n_heads, config.chunk, config.eps
        self.gate_cap = config.gate_cap
        self.key_dim, self.value_dim = config.widths(dim)
        keys, values = self.n_heads * self.key_dim, self.n_heads * self.value_dim
        self.q, self.k = (nn.Linear(dim, keys, bias=config.bias) for _ in range(2))
        self.v, self.g = (nn.Linear(dim, values, bias=config.bias) for _ in range(2))
        self.input_gate = GateLinear(dim, mx.full((self.n_heads,), -10.0))
        self.forget_gate = GateLinear(dim, mx.linspace(3.0, 6.0, self.n_heads))
        self.norm = HeadNorm(values, config.norm_eps, bias=config.bias)
        self.o = ResidualLinear(values, dim, bias=config.bias)

    def __call__(self, x: BTD, ctx: Context) -> BTD:
        return self._mix(x, self._empty(x.shape[0]), ctx)[0]

    def init_state(self, batch: int, length: int, dtype: mx.Dtype) -> State:
        """The empty memory, in float32."""
        return dict(self._empty(batch)._asdict())

    def step(self, x: BTD, state: State, ctx: Context) -> tuple[BTD, State]:
        """Continue by the T tokens of `x`."""
        y, after = self._mix(x, MatrixMemory(**state), ctx)
        return y, dict(after._asdict())

    def _empty(self, batch: int) -> MatrixMemory:
        return MatrixMemory.empty(batch, self.n_heads, self.key_dim, self.value_dim)

    def _mix(self, x: mx.array, state: MatrixMemory, ctx: Context) -> tuple[mx.array, MatrixMemory]:
        q, k, v = (split_heads(layer(x), self.n_heads) for layer in (self.q, self.k, self.v))
        gates = (
            soft_cap(gate(x).astype(mx.float32), self.gate_cap).swapaxes(1, 2)
            for gate in (self.input_gate, self.forget_gate)
        )
        facts = row_facts(ctx, x.shape[1])
        out, state = mlstm(q, k, v, *gates, state=state, eps=self.eps, chunk=self.chunk, **facts)
        return self.o(mx.sigmoid(self.g(x)) * self.norm(out)), state
