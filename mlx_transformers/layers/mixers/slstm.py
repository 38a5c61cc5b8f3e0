"""The scalar memory of xLSTM as a mixer."""

from typing import Annotated, ClassVar, Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field

from ...core.context import Context
from ...core.errors import RecipeError
from ...core.footprint import FLOAT32_BYTES, ActivationShape
from ...core.shapes import BTD
from ...ops.slstm import ScalarMemory, slstm
from ...recipe.slot import Slot
from ..kinds import MixerKind, NormKind, State
from ..linear import ResidualLinear
from ..norms import LayerNorm
from ..parameter import Role
from ..short_conv import ShortConv
from ..token_masks import document_starts, real_tokens


class Slstm(MixerKind):
    """sLSTM: an LSTM with exponential gates, a normaliser, and heads that don't read each other.

        i, f = W_□ silu(conv(x_t)) + R_□ h_{t-1} + b_□          z, o = W_□ x_t + R_□ h_{t-1} + b_□
        c_t = f c_{t-1} + i tanh(z)      n_t = f n_{t-1} + i      y_t = W_o norm(σ(o) c_t / n_t)

    with `i = exp(i)` and `f = σ(f)`. Beck et al. 2024, "xLSTM: Extended Long Short-Term Memory",
    equations 8 to 18 and figure 10. Gates read the last output, so training steps over tokens.
    """

    kind: Literal["slstm"] = "slstm"
    n_heads: int = Field(ge=1)
    """Heads H."""
    conv: int | None = Field(4, ge=2)
    """Tokens that the convolution in front of i and f reads; none means no convolution."""
    norm: Annotated[NormKind, Slot("norm")] = LayerNorm(bias=False)
    """Normalisation of each head's output; heads share its weight."""

    def build(self, dim: int) -> "SlstmMixer":
        if dim % self.n_heads:
            raise RecipeError(
                f"mixer.n_heads = {self.n_heads} does not divide model.dim = {dim}. "
                "Choose a divisor."
            )
        return SlstmMixer(self, dim)

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Inputs, gates and states, and the normalised output."""
        conv = 2 * dim if self.conv else 0
        return (3 * dim + conv) * at.itemsize + 16 * dim * FLOAT32_BYTES

    def flops(self, dim: int, length: int) -> float:
        """The sums of the norm."""
        return 2.0 * dim


class SlstmMixer(nn.Module):
    """`(x [B, T, D], ctx) -> [B, T, D]`; the state is four vectors and the convolution's inputs."""

    roles: ClassVar[dict[str, Role]] = {"recurrent": "matrix", "gate_bias": "own"}

    def __init__(self, config: Slstm, dim: int) -> None:
        super().__init__()
        self.n_heads, width = config.n_heads, dim // config.n_heads
        if config.conv is not None:
            self.conv = ShortConv(dim, config.conv, bias=True)
        self.fast = nn.Linear(dim, 2 * dim, bias=False)
        self.slow = nn.Linear(dim, 2 * dim, bias=False)
        self.recurrent = mx.zeros((config.n_heads, 4 * width, width))
        # Forget gates start between σ(3) and σ(6), so that heads remember over different spans.
        forget = mx.linspace(3.0, 6.0, dim)
        zero = mx.zeros((dim,))
        self.gate_bias = mx.concatenate([zero, forget, zero, zero])
        self.norm = config.norm.build(width)
        self.o = ResidualLinear(dim, dim, bias=False)

    def __call__(self, x: BTD, ctx: Context) -> BTD:
        read = self.conv(x, ctx) if "conv" in self else None
        empty = ScalarMemory.empty(x.shape[0], x.shape[2])
        return self._mix(x, read, empty, ctx)[0]

    def init_state(self, batch: int, length: int, dtype: mx.Dtype) -> State:
        """The empty memory, in float32."""
        memory: State = ScalarMemory.empty(batch, self.gate_bias.shape[0] // 4)._asdict()
        return memory | ({"conv": self.conv.init_state(batch, dtype)} if "conv" in self else {})

    def step(self, x: BTD, state: State, ctx: Context) -> tuple[BTD, State]:
        """Continue by the T tokens of `x`."""
        read, after = None, {}
        if "conv" in self:
            read, after["conv"] = self.conv.step(x, state["conv"], ctx)
        memory = ScalarMemory(*(state[name] for name in ScalarMemory._fields))
        y, memory = self._mix(x, read, memory, ctx)
        return y, memory._asdict() | after

    def _mix(
        self, x: mx.array, read: mx.array | None, memory: ScalarMemory, ctx: Context
    ) -> tuple[mx.array, ScalarMemory]:
        fast = self.fast(x if read is None else nn.silu(read))
        wx = mx.concatenate([fast, self.slow(x)], axis=-1) + self.gate_bias
        valid = real_tokens(ctx, x.shape[1])
        h, last = slstm(wx, self.recurrent, memory, document_starts(ctx), valid)
        heads = h.astype(x.dtype).reshape(*x.shape[:2], self.n_heads, -1)
        return self.o(self.norm(heads).flatten(-2)), last
