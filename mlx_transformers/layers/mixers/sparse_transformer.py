"""The factorised patterns of Sparse Transformers: strided and fixed."""

from functools import partial
from typing import Literal, Self

import mlx.core as mx
import numpy as np
from pydantic import Field, model_validator

from ...core.context import Context
from ...core.errors import RecipeError
from ...ops.key_patterns import Factorised
from ...ops.key_sets import KeySet, Tokens, union
from ..kinds import ScoreBias
from .sparse_heads import Arrays, DecodingMixer, SparseHeads


class SparseTransformer(SparseHeads):
    """Sparse Transformer: two sets of keys of about √T each, through which every token reaches
    every earlier one in two layers.

    With stride l, query t sees, of the keys s ≤ t (Child et al. 2019, section 4.3):

    `strided`: near keys, `t - s < l`; far keys, `(t - s) mod l = 0`.
    `fixed`: near keys, `⌊s/l⌋ = ⌊t/l⌋`; far keys, the last c of each block, `s mod l ≥ l - c`.

    Both sets as in OpenAI's code (sparse_attention), where the strided window has l keys; the
    paper's has l + 1. A pass that is not causal sees the same to both sides.
    """

    kind: Literal["sparse_transformer"] = "sparse_transformer"
    pattern: Literal["strided", "fixed"] = "strided"
    """The pair of sets: `strided` for periodic data such as images, `fixed` for text."""
    stride: int = Field(ge=1)
    """Length l of the near set, about √T."""
    reads: Literal["both", "split", "near", "far"] = "both"
    """The sets of a head: their union (merged heads), near keys in the first half of the heads and
    far ones in the others (`split`), or one set, for layers in turn."""
    summary: int = Field(1, ge=1)
    """Summary keys c at the end of each block of the fixed pattern (blocksize · vertsize)."""
    verts: int = Field(1, ge=1)
    """Groups of heads with summary keys of their own, c further from the block's end in each next
    head (num_verts)."""

    @property
    def score_bias(self) -> ScoreBias:
        """Its pattern has no place for a bias."""
        return "refuses"

    @model_validator(mode="after")
    def _summaries_fit(self) -> "SparseTransformer":
        if self.pattern == "strided" and (self.summary, self.verts) != (1, 1):
            raise ValueError("summary and verts belong to pattern = 'fixed': unset them.")
        if self.summary * self.verts > self.stride:
            raise ValueError(
                f"summary * verts = {self.summary * self.verts} keys don't fit in a block of "
                f"stride = {self.stride}. Lower one of them, or raise stride."
            )
        return self

    def check(self, dim: int) -> None:
        super().check(dim)
        groups = self.verts * (2 if self.reads == "split" else 1)
        if self.n_heads % groups:
            raise RecipeError(
                f"mixer.n_heads = {self.n_heads} can't be divided into {groups} groups, which "
                f"mixer.verts = {self.verts} and mixer.reads = '{self.reads}' ask for. Choose "
                f"a multiple of {groups}."
            )

    def part(self, dim: int, n: int) -> Self:
        """The kind with an n-th of the heads; raises RecipeError if its halves read other keys."""
        if self.reads == "split":
            raise RecipeError(
                f"mixer.reads = 'split' can't be shared evenly by {n} processes: the first half of "
                "the heads reads other keys than the second. Set mixer.reads = 'both', or leave "
                "train.tensor_parallel out."
            )
        return super().part(dim, n)

    def build(self, dim: int) -> "SparseTransformerMixer":
        return SparseTransformerMixer(self, dim)

    def keys_seen(self, t: np.ndarray) -> np.ndarray:
        size, in_block = self.stride, t % self.stride + 1
        if self.pattern == "strided":
            near, far, both = np.minimum(t + 1, size), t // size + 1, 1
        else:
            shares = [
                np.clip(in_block - (size - self.summary * (vert + 1)), 0, self.summary)
                for vert in range(self.verts)
            ]
            both = sum(shares) / self.verts
            near, far = in_block, t // size * self.summary + both
        counts = {"both": near + far - both, "split": (near + far) / 2, "near": near, "far": far}
        return np.asarray(counts[self.reads], np.float64)


class SparseTransformerMixer(DecodingMixer):
    """`(x [B, T, D], ctx) -> [B, T, D]`; its decode state is a KV cache of all tokens."""

    def __init__(self, config: SparseTransformer, dim: int) -> None:
        super().__init__(config, dim)
        self.pattern = Factorised(config.pattern, config.stride, config.summary, config.verts)
        self.reads = config.reads
        if config.reads == "near":
            self.reach = config.stride

    def _mix(self, ctx: Context, arrays: Arrays) -> mx.array:
        q, k, v = (arrays[name] for name in "qkv")
        tokens = Tokens.of(q.shape[2], ctx.layout.segments, ctx.layout.valid)
        attend = partial(self._set, ctx)
        near = partial(self.pattern.near, attend, tokens, causal=ctx.layout.causal)
        far = partial(self.pattern.far, attend, tokens, causal=ctx.layout.causal)
        half = self.n_heads // 2
        match self.reads:
            case "near":
                sets = [near((q, k, v))]
            case "far":
                sets = [far((q, k, v))]
            case "both":
                sets = [near((q, k, v)), far((q, k, v), alone=False)]
            case "split":
                first = near((q[:, :half], k[:, :half], v[:, :half]))
                second = far((q[:, half:], k[:, half:], v[:, half:]))
                both = zip(first, second, strict=True)
                sets = [KeySet(*(mx.concatenate(list(pair), axis=1) for pair in both))]
        return union(sets, arrays.get("sinks"))

    def _sees(self, q_pos: mx.array, k_pos: mx.array) -> mx.array:
        head = mx.arange(self.n_heads)[:, None, None]
        near = self.pattern.is_near(q_pos, k_pos)
        far = self.pattern.is_far(q_pos, k_pos, head)
        rules = {"near": near, "far": far, "both": near | far}
        if self.reads == "split":
            return mx.where(head < self.n_heads // 2, near, far)
        return rules[self.reads]
