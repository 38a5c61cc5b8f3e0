"""A stack of blocks: the part that decoders, encoders and their pairs share."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from ..core.context import Context
from ..core.recompute import recompute
from ..layers.block import Block, BlockModule


class Stack(nn.Module):
    """Blocks one after the other: `(x [B, T, D], ctx) -> [B, T, D]`.

    Attributes:
        recomputed: indices of blocks whose activations are recomputed in the backward pass.
    """

    def __init__(self, blocks: Sequence[Block], dim: int) -> None:
        super().__init__()
        self.blocks: list[BlockModule] = [block.build(dim) for block in blocks]
        self.recomputed: frozenset[int] = frozenset()

    def __call__(self, x: mx.array, ctx: Context) -> mx.array:
        for i, block in enumerate(self.blocks):
            key = ctx.next_key() if ctx.key is not None else None
            x, aux, stats = self._run(i, block, x, key, ctx)
            for name, value in aux.items():
                ctx.add_aux(name, value)
            for name, value in stats.items():
                ctx.add_stat(f"{name}/{i}", value)
        return x

    def _run(
        self, i: int, block: BlockModule, x: mx.array, key: mx.array | None, ctx: Context
    ) -> tuple[mx.array, dict[str, mx.array], dict[str, mx.array]]:
        def run(x: mx.array, *keys: mx.array) -> Any:
            own = replace(ctx, key=mx.stop_gradient(keys[0]) if keys else None, aux={}, stats={})
            return block(x, own), own.aux, own.stats

        f = recompute([block, ctx.position], run) if i in self.recomputed else run
        return f(x) if key is None else f(x, key)

    def init_state(self, batch: int, length: int, dtype: mx.Dtype) -> list[Any]:
        """The decode state of every block."""
        return [block.init_state(batch, length, dtype) for block in self.blocks]

    def step(self, x: mx.array, states: list[Any], ctx: Context) -> tuple[mx.array, list[Any]]:
        """Continue every row by the T tokens of `x`."""
        after = []
        for block, state in zip(self.blocks, states, strict=True):
            x, new = block.step(x, state, ctx)
            after.append(new)
        return x, after


def tile(
    pattern: Sequence[str] | None, block: Block, blocks: dict[str, Block], n_layers: int
) -> list[Block]:
    """The block of each layer: `pattern` repeated to `n_layers`, or `block` everywhere."""
    if pattern is None:
        return [block] * n_layers
    return [blocks[pattern[i % len(pattern)]] for i in range(n_layers)]
