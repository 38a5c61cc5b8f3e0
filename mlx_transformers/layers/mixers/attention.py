"""Softmax attention: multi-head, grouped-query, multi-query; whole rows or a sliding window."""

import math
from typing import Annotated, ClassVar, Literal, Self

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field, model_validator

from ...core.context import Context
from ...core.errors import RecipeError
from ...core.footprint import FLOAT32_BYTES, ActivationShape
from ...core.score_bias import DistanceBias
from ...core.shapes import BT_, BTD
from ...ops.activations import ACTIVATIONS
from ...ops.attention import attention, attention_saved_bytes, attention_scores, whole_bias
from ...ops.masks import Mask
from ...recipe.slot import Slot
from ..ffns.mlp import Activation
from ..kinds import Norm, NormKind, ScoreBias, State
from ..norms import PerHeadNorm
from ..parameter import Role
from ..sharding import divide_evenly, dropout_key
from .kv_cache import empty_cache, extend
from .projected import GroupedHeads, ProjectedMixer
from .row_mask import row_mask


class SoftmaxHeads(GroupedHeads):
    """Fields of attention with a softmax over its scores: self-attention and cross attention."""

    qk_norm: Annotated[NormKind, Slot("norm")] | None = None
    """Normalisation of queries and keys, before rotation."""
    qk_norm_over: Literal["head", "each_head", "width"] = "head"
    """The vectors that `qk_norm` normalises: each head, with shared weights (Qwen 3, Gemma 3) or
    its own (Cohere, StableLM), or all heads concatenated (OLMo 2)."""
    clip: float | None = Field(None, gt=0)
    """Clips q, k and v to ±clip, after `qk_norm` (OLMo, DBRX: clip_qkv)."""
    softcap: float | None = Field(None, gt=0)
    """Soft cap c of the scores: `c · tanh(score / c)`."""
    sinks: bool = False
    """Attention sinks: each head learns a score without a value, which takes part in the softmax
    (gpt-oss)."""
    scale: float | None = Field(None, gt=0)
    """Factor of the scores; none means 1/√K."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout on the attention weights."""

    @property
    def score_bias(self) -> ScoreBias:
        """Biases of positions are added to the scores."""
        return "adds"

    @model_validator(mode="after")
    def _norm_has_a_place(self) -> "SoftmaxHeads":
        if self.qk_norm is None and self.qk_norm_over != "head":
            raise ValueError("qk_norm_over has no effect without qk_norm: set that, or unset this.")
        return self

    def part(self, dim: int, n: int) -> Self:
        """The kind with an n-th of the query and key/value heads."""
        if self.qk_norm is not None and self.qk_norm_over != "head":
            raise RecipeError(
                f"mixer.qk_norm_over = '{self.qk_norm_over}' can't be shared out among processes: "
                "its weights are not the same for every head. Leave train.tensor_parallel out."
            )
        heads = {
            "n_heads": divide_evenly("mixer.n_heads", self.n_heads, n),
            "n_kv_heads": divide_evenly("mixer.n_kv_heads", self.kv_heads, n),
            "head_dim": self.width_of_head(dim),
        }
        return self.model_copy(update=heads)

    def mask(self) -> Mask:
        """The attention mask in training, without the facts of a batch."""
        return Mask(causal=False)

    def dense_bias(self) -> bool:
        """Whether the mixer adds a bias to its scores that isn't given by distance."""
        return False

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Input, q, k, v, statistics of the scores, and the output with merged heads.

        Where merging the heads copies, the output before it is saved too.
        """
        return self.saved_for_keys(dim, at, at.length)

    def saved_for_keys(self, dim: int, at: ActivationShape, size: int) -> float:
        """Bytes per query if each row has `size` keys and values."""
        head_dim, groups = self.width_of_head(dim), self.kv_heads
        queries, keys = self.n_heads * head_dim, groups * head_dim * size / at.length
        inside = FLOAT32_BYTES if at.cpu else at.itemsize
        scores = attention_saved_bytes(
            at,
            self.n_heads,
            keys=size,
            mask=self.mask(),
            softcap=self.softcap is not None,
            dropout=self.dropout > 0,
            bias=at.biased,
            dense_bias=self.dense_bias(),
            sinks=self.sinks,
        )
        norms = 0.0
        if self.qk_norm is not None:
            norms = (self.n_heads + groups) * self.qk_norm.saved_bytes(head_dim, at)
        rotated = 0 if at.cpu and inside == at.itemsize else queries
        unclipped = queries + 2 * keys if self.clip is not None else 0
        around = (dim + queries) * at.itemsize
        return around + (queries + 2 * keys + rotated + unclipped) * inside + scores + norms


class Attention(SoftmaxHeads):
    """Scaled dot-product attention: `softmax(q kᵀ · scale) v`, head by head.

    Multi-head: Vaswani et al. 2017, section 3.2. Multi-query: Shazeer 2019. Grouped-query:
    Ainslie et al. 2023. Sliding window: Beltagy et al. 2020, Mistral (Jiang et al. 2023).
    Query-key norm: Henry et al. 2020. Soft cap: Gemma 2, section 2. Sinks: OpenAI 2025 (gpt-oss
    model card, section 2), after Xiao et al. 2023.
    """

    projects_first: ClassVar[bool] = True
    kind: Literal["attention"] = "attention"
    window: int | None = Field(None, ge=1)
    """Sliding window: each token sees itself and the window - 1 tokens before it; none: all."""
    chunk: int | None = Field(None, ge=1)
    """Chunked attention: each token sees the tokens of its own chunk of so many positions, counted
    from the start of its document (the local layers of Llama 4, Meta 2025); none: all."""
    gate: Activation | None = None
    """The activation of an output gate, `W_o (act(W_g x) · y)`; none means no gate (Qwen3-Next:
    sigmoid; Qiu et al. 2025)."""
    qk_norm_last: bool = False
    """Whether `qk_norm` follows the rotation instead of preceding it (Hunyuan)."""

    @model_validator(mode="after")
    def _one_range_of_keys(self) -> "Attention":
        if self.window is not None and self.chunk is not None:
            raise ValueError(
                "window and chunk each say which keys a token sees: unset one of them."
            )
        return self

    @model_validator(mode="after")
    def _last_norm_has_a_place(self) -> "Attention":
        if self.qk_norm_last and (self.qk_norm is None or self.qk_norm_over == "width"):
            raise ValueError("qk_norm_last goes with a qk_norm over heads, not over the width.")
        return self

    def flops(self, dim: int, length: int) -> float:
        """Scores and weighted values: `4 · H · K` for each key that a token sees, on average."""
        window = min(self.window or length, length)
        keys = window - window * (window - 1) / (2 * length)
        if self.chunk is not None:
            whole, rest = divmod(length, self.chunk)
            keys = (whole * self.chunk * (self.chunk + 1) + rest * (rest + 1)) / (2 * length)
        return 4.0 * self.n_heads * self.width_of_head(dim) * keys

    @property
    def skips_tokens(self) -> bool:
        """With a window or chunks the distance of two tokens depends on those between them."""
        return self.window is None and self.chunk is None

    @property
    def rewinds(self) -> bool:
        return True

    def build(self, dim: int) -> "AttentionMixer":
        return AttentionMixer(self, dim)

    def mask(self) -> Mask:
        return Mask(window=self.window, chunk=self.chunk)

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Bytes of attention, and of the gate: before its activation, after it, and its input."""
        gates = 0 if self.gate is None else 3 * self.n_heads * self.width_of_head(dim)
        return super().saved_bytes(dim, at) + gates * at.itemsize


class SoftmaxMixer(ProjectedMixer):
    """Softmax attention, for a subclass that chooses the keys."""

    roles: ClassVar[dict[str, Role]] = {"sinks": "vector"}

    def __init__(self, config: SoftmaxHeads, dim: int) -> None:
        super().__init__(config, dim, kv_heads=config.kv_heads)
        self.n_kv_heads = config.kv_heads
        self.scale = config.scale or 1.0 / math.sqrt(self.head_dim)
        self.softcap = config.softcap
        self.clip = config.clip
        self.dropout = config.dropout
        if config.qk_norm is not None:
            self.norm_joined = config.qk_norm_over == "width"
            for name, heads in (("q_norm", self.n_heads), ("k_norm", self.n_kv_heads)):
                self[name] = self._norm(config, config.qk_norm, heads)
        if config.sinks:
            self.sinks = mx.zeros((self.n_heads,))

    def _norm(self, config: SoftmaxHeads, norm: NormKind, heads: int) -> Norm:
        if config.qk_norm_over == "each_head":
            return PerHeadNorm(norm, heads, self.head_dim)
        return norm.build(self.head_dim * (heads if self.norm_joined else 1))

    def _heads(self, y: mx.array, norm: str = "") -> mx.array:
        """A projection `[B, T, H * K]`, normalised, split into heads `[B, H, T, K]`, clipped."""
        if norm in self and self.norm_joined:
            y = self[norm](y)
        y = super()._heads(y)
        if norm in self and not self.norm_joined:
            y = self[norm](y)
        return y if self.clip is None else mx.clip(y, -self.clip, self.clip)

    def _attend(
        self,
        q: mx.array,
        k: mx.array,
        v: mx.array,
        mask: Mask,
        bias: mx.array | DistanceBias | None,
        ctx: Context,
        gate: mx.array | None = None,
        observed_as: str = "attention",
    ) -> mx.array:
        """Attention with its heads merged, times `gate [B, T, H * K]`, projected to `[B, T, D]`; an
        observer sees its weights as `observed_as`."""
        if "prefix" in self:  # an adapter's
            k, v, mask = self.prefix(q, k, v, mask, bias)
        dropped = self.dropout and ctx.key is not None

        def mix(values: mx.array, key: mx.array | None = None) -> mx.array:
            return attention(
                q,
                k,
                values,
                scale=self.scale,
                mask=mask,
                softcap=self.softcap,
                bias=bias,
                sinks=self.get("sinks"),
                dropout=0.0 if key is None else self.dropout,
                key=key,
            )

        ctx.collected.observe_weights(observed_as, mix, v)
        if ctx.collected.requested and observed_as == "attention":
            self._capture(q, k, v, mask, bias, ctx)
        y = mix(v, dropout_key(self.o, ctx.next_key()) if dropped else None)
        y = y.transpose(0, 2, 1, 3).flatten(-2)
        out: mx.array = self.o(y if gate is None else y * gate)
        return out

    def _capture(
        self,
        q: mx.array,
        k: mx.array,
        v: mx.array,
        mask: Mask,
        bias: mx.array | DistanceBias | None,
        ctx: Context,
    ) -> None:
        """Capture the arrays that an objective requests of this layer."""
        arrays = {"queries": q, "keys": k, "values": v}
        if "scores" in ctx.collected.requested:
            added = whole_bias(q * self.scale, bias) if isinstance(bias, DistanceBias) else bias
            arrays["scores"] = attention_scores(
                q, k, scale=self.scale, mask=mask, softcap=self.softcap, bias=added
            )
        ctx.collected.captured |= {name: arrays[name] for name in ctx.collected.requested}


class AttentionMixer(SoftmaxMixer):
    """`(x [B, T, D], ctx) -> [B, T, D]`, and `step` with a KV cache.

    The output is as wide as that of `o`, which may be replaced by another projection.
    """

    def __init__(self, config: Attention, dim: int) -> None:
        super().__init__(config, dim)
        self.window, self.chunk = config.window, config.chunk
        self.norm_last = config.qk_norm_last
        self.gate = config.gate
        if config.gate is not None:
            self.g = nn.Linear(dim, self.n_heads * self.head_dim, bias=config.bias)

    def __call__(self, x: BTD, ctx: Context) -> BT_:
        return self.mix([layer(x) for layer in self.projections()], ctx)

    def projections(self) -> list[nn.Module]:
        """The linear layers of the input: queries, keys, values and the gate, if any."""
        return [self.q, self.k, self.v, *([] if self.gate is None else [self.g])]

    def mix(self, projected: list[mx.array], ctx: Context) -> BT_:
        """The output for those of `projections`, `[B, T, H * K]` each."""
        q, k, v, gate = self._split(projected, ctx)
        mask = row_mask(ctx, q.shape[2], self.window, self.chunk)
        bias = self._row_bias(q, k, ctx)
        return self._attend(q, k, v, mask, bias, ctx, gate)

    def init_state(self, batch: int, length: int, dtype: mx.Dtype) -> State:
        """An empty KV cache for `batch` rows of at most `length` tokens."""
        slots = min(length, self.window or self.chunk or length)
        return empty_cache(batch, self.n_kv_heads, slots, (self.head_dim, self.head_dim), dtype)

    def step(self, x: BTD, state: State, ctx: Context) -> tuple[BT_, State]:
        """Continue by the T tokens of `x`, at positions `cursor.offset + arange(T)`."""
        q, k, v, gate = self._split([layer(x) for layer in self.projections()], ctx)
        cache = extend(state, k, v, ctx, self.window or self.chunk)
        bias = self._bias(q, cache.k, cache.q_pos, cache.k_pos, ctx)
        mask = cache.mask if self.chunk is None else cache.in_chunks(self.chunk, ctx.cursor.pad)
        return self._attend(q, cache.k, cache.v, mask, bias, ctx, gate), cache.state

    def _split(
        self, projected: list[mx.array], ctx: Context
    ) -> tuple[mx.array, mx.array, mx.array, mx.array | None]:
        """Queries `[B, H, T, K]`, keys and values `[B, G, T, K]`, normalised and rotated, and the
        gate `[B, T, H * K]`, if any."""
        q, k, v, *gates = projected
        before = ("", "") if self.norm_last else ("q_norm", "k_norm")
        q, k = self._heads(q, before[0]), self._heads(k, before[1])
        q, k = ctx.position.rotate(q, k, ctx)
        if self.norm_last:
            q, k = self.q_norm(q), self.k_norm(k)
        gate = None if self.gate is None else ACTIVATIONS[self.gate](gates[0])
        return q, k, self._heads(v), gate

    def _row_bias(self, q: mx.array, k: mx.array, ctx: Context) -> mx.array | DistanceBias | None:
        """The bias of a whole row: by distance where the position knows it so."""
        bias = ctx.position.distance_bias(q * self.scale, k, ctx)
        places = mx.arange(q.shape[2])
        return self._bias(q, k, places, places, ctx) if bias is None else bias

    def _bias(
        self, q: mx.array, k: mx.array, q_pos: mx.array, k_pos: mx.array, ctx: Context
    ) -> mx.array | None:
        bias: mx.array | None = ctx.position.bias(q * self.scale, k, q_pos, k_pos, ctx)
        return bias
