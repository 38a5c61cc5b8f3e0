"""Cross attention: queries of the target, keys and values of the encoder's output."""

from dataclasses import replace
from typing import Literal

import mlx.core as mx

from ...core.context import Context
from ...core.footprint import ActivationShape
from ...core.shapes import BTD
from ...ops.masks import Mask
from ..kinds import CrossMixerKind, State
from .attention import SoftmaxHeads, SoftmaxMixer


class CrossAttention(SoftmaxHeads, CrossMixerKind):
    """Cross attention to the encoder's output, `ctx.memory`.

    Vaswani et al. 2017, section 3.2.3: "encoder-decoder attention". It has no positions and no
    causal mask; padding of the source is masked.
    """

    kind: Literal["cross_attention"] = "cross_attention"

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        return self.saved_for_keys(dim, replace(at, biased=False), at.memory or at.length)

    def flops(self, dim: int, length: int) -> float:
        """Scores and weighted values, of a source as long as the target."""
        return 4.0 * self.n_heads * self.width_of_head(dim) * length

    def build(self, dim: int) -> "CrossAttentionMixer":
        return CrossAttentionMixer(self, dim)


class CrossAttentionMixer(SoftmaxMixer):
    """`(x [B, T, D], ctx with memory [B, S, D]) -> [B, T, D]`.

    Its decode state holds the keys and values of the memory (`project_memory`).
    """

    def __call__(self, x: BTD, ctx: Context) -> BTD:
        return self._read(x, self.project_memory(ctx.memory), ctx)

    def project_memory(self, memory: mx.array | None) -> State:
        """The keys and values of a memory `[B, S, D]`.

        Raises:
            RuntimeError: the pass has no memory.
        """
        if memory is None:
            raise RuntimeError("Cross attention needs a memory: run the encoder first.")
        return {"k": self._heads(self.k(memory), "k_norm"), "v": self._heads(self.v(memory))}

    def init_state(self, batch: int, length: int, dtype: mx.Dtype) -> State:
        """Empty: the keys and values come from `project_memory`."""
        return {}

    def step(self, x: BTD, state: State, ctx: Context) -> tuple[BTD, State]:
        """Attend to the cached keys and values."""
        return self._read(x, state, ctx), state

    def _read(self, x: mx.array, cache: State, ctx: Context) -> mx.array:
        q = self._heads(self.q(x), "q_norm")
        k, v = cache["k"].astype(q.dtype), cache["v"].astype(q.dtype)
        mask = Mask(causal=False, valid=ctx.memory_valid)
        return self._attend(q, k, v, mask, None, ctx, observed_as="cross_attention")
