"""BigBird's attention: blocks that read their neighbours, random blocks, and two global blocks."""

from functools import partial
from typing import Literal, Self

import mlx.core as mx
import numpy as np
from pydantic import Field

from ...core.context import Context
from ...core.errors import RecipeError
from ...ops.big_bird import random_blocks
from ...ops.key_patterns import read_blocks, take_blocks
from ...ops.key_sets import KeySet, Tokens, blocks, neighbours, unblocked, union
from ..kinds import ScoreBias
from .sparse_heads import Arrays, EncodingMixer, SparseHeads


class BigBird(SparseHeads):
    """BigBird's block-sparse attention: window, random and global blocks.

    Zaheer et al. 2020, section 2 and appendix D, the ITC variant of the published code: a block of
    queries reads itself, the blocks beside it, `n_random` random blocks, and the first and the last
    block, which read everything and which every block reads. Rows are filled up to whole blocks;
    those of at most `5 + 2 n_random` blocks are read in full, as in transformers. It reads rows in
    both directions, whatever the pass, and is for encoders.
    """

    kind: Literal["big_bird"] = "big_bird"
    block: int = Field(64, ge=1)
    """Tokens of a block."""
    n_random: int = Field(3, ge=0)
    """Random blocks that a block reads."""
    seed: int = Field(0, ge=0)
    """Seed of the random blocks; the published code gives each layer its index."""
    random_in_eval: bool = True
    """Whether evaluation reads the random blocks too; transformers reads the first block in their
    place, so that it counts once more for each."""
    longest: int = Field(4096, ge=1)
    """Length of the longest rows of the model, for which the published plan of rows of 1,024, 3,072
    and 4,096 tokens is drawn (max_position_embeddings)."""

    @property
    def score_bias(self) -> ScoreBias:
        """Its pattern has no place for a bias."""
        return "refuses"

    def part(self, dim: int, n: int) -> Self:
        """The kind with an n-th of the heads; raises RecipeError if each draws random blocks."""
        if self.n_random:
            raise RecipeError(
                f"mixer.n_random = {self.n_random} can't be shared evenly by {n} processes: every "
                "head has random blocks of its own. Set it to 0, or leave train.tensor_parallel "
                "out."
            )
        return super().part(dim, n)

    def build(self, dim: int) -> "BigBirdMixer":
        return BigBirdMixer(self, dim)

    def reads_all(self, length: int) -> bool:
        """Whether rows of `length` tokens are so short that every token reads every other."""
        return length <= (5 + 2 * self.n_random) * self.block

    def keys_seen(self, t: np.ndarray) -> np.ndarray:
        if self.reads_all(len(t)):
            return np.full(len(t), len(t))
        n = -(-len(t) // self.block)
        query_block = t // self.block
        beside = np.where((query_block == 1) | (query_block == n - 2), 4, 5) + self.n_random
        return np.where((query_block == 0) | (query_block == n - 1), len(t), beside * self.block)


class BigBirdMixer(EncodingMixer):
    """`(x [B, T, D], ctx) -> [B, T, D]`, not causal."""

    def __init__(self, config: BigBird, dim: int) -> None:
        super().__init__(config, dim)
        self.config = config

    def _mix(self, ctx: Context, arrays: Arrays) -> mx.array:
        q, k, v = (arrays[name] for name in "qkv")
        length, size = q.shape[2], self.config.block
        tokens = Tokens.of(length, ctx.layout.segments, ctx.layout.valid)
        sinks = arrays.get("sinks")
        if self.config.reads_all(length):
            return union([self._set(ctx, q, k, v, tokens.mask_to(tokens, causal=False))], sinks)
        qb, kb, vb = (blocks(x, size) for x in (q, k, v))
        query_blocks = tokens.arranged(lambda x, fill: blocks(x, size, fill))
        ends = partial(take_blocks, at=(0, -1))
        inner_sets = self._inner(ctx, query_blocks, qb, kb, vb)
        end_blocks = union(
            [
                self._set(
                    ctx, ends(qb), k, v, query_blocks.arranged(ends).mask_to(tokens, causal=False)
                )
            ],
            sinks,
        )
        first, last = (
            blocks(end_blocks[..., :size, :], size),
            blocks(end_blocks[..., size:, :], size),
        )
        between = union(inner_sets, None if sinks is None else sinks[..., None])
        return unblocked(mx.concatenate([first, between, last], axis=2), length)

    def _inner(
        self, ctx: Context, query_blocks: Tokens, q: mx.array, k: mx.array, v: mx.array
    ) -> list[KeySet]:
        """The key sets of all blocks but the first and last: window, global and random."""
        n, size = q.shape[2], self.config.block

        def inner(x: mx.array, fill: int = 0) -> mx.array:
            return x[..., 1:-1, :, :]

        def window(x: mx.array, fill: int = 0) -> mx.array:
            return inner(neighbours(x, 1, 1, fill))

        def ends(x: mx.array, fill: int = 0) -> mx.array:
            return take_blocks(x, fill, at=(0, -1))[..., None, :, :]

        def not_global(_: mx.array, key: mx.array) -> mx.array:
            return (key >= size) & (key < (n - 1) * size)

        queries = query_blocks.arranged(inner)
        sets = [
            (window, queries.mask_to(query_blocks.arranged(window), causal=False, rule=not_global)),
            (ends, queries.mask_to(query_blocks.arranged(ends), causal=False)),
        ]
        if self.config.n_random:
            random = partial(read_blocks, at=self._random(n, ctx))
            sets.append((random, queries.mask_to(query_blocks.arranged(random), causal=False)))
        return [self._set(ctx, inner(q), arrange(k), arrange(v), mask) for arrange, mask in sets]

    def _random(self, n: int, ctx: Context) -> np.ndarray:
        """The random blocks `[H, N - 2, r]` of this pass."""
        config = self.config
        if not ctx.training and not config.random_in_eval:
            return np.zeros((self.n_heads, n - 2, config.n_random), np.int32)
        return random_blocks(
            n * config.block,
            config.block,
            config.n_random,
            self.n_heads,
            config.seed,
            config.longest,
        )
