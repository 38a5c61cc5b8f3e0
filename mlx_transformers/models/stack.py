"""Towers and their stacks of blocks, shared by decoders, encoders and encoder-decoders."""

from dataclasses import replace
from typing import Any, ClassVar

import mlx.core as mx
import mlx.nn as nn

from ..core.context import Context, SideOutputs
from ..core.recompute import recompute
from ..core.weights_first import weights_first
from ..layers.block import BlockModule
from ..layers.kinds import RunLayer
from ..layers.mixers.shared_block import EMBEDDED, SharedBlockMixer, share_blocks
from ..layers.parameter import Place
from ..ops.device import on_cpu
from .reversible import run_reversible, step_reversible
from .tower import Tower


def served_by(layer: int, n_layers: int, n_distinct: int, unit: int) -> int:
    """Index of the distinct block that serves a layer; each unit of blocks serves equally many."""
    units, distinct = n_layers // unit, n_distinct // unit
    return (layer // unit) * distinct // units * unit + layer % unit


class Stack(nn.Module):
    """Blocks one after the other: `(x [B, T, D], ctx) -> [B, T, D]`.

    Attributes:
        blocks: blocks with weights of their own.
        recomputed: indices of checkpointed layers, recomputed in the backward pass.
    """

    places: ClassVar[dict[str, Place]] = {"blocks": "layers"}

    def __init__(self, config: Tower, dim: int, max_seq_len: int) -> None:
        super().__init__()
        layers = config.layers()
        distinct = config.n_distinct or len(layers)
        self.blocks: list[BlockModule] = [b.build(dim, max_seq_len) for b in layers[:distinct]]
        share_blocks(block.mixer for block in self.blocks)
        # A list of numbers would count as parameters.
        self.n_layers, self.n_distinct, self.unit = len(layers), distinct, config.unit
        self.recomputed: frozenset[int] = frozenset()
        if config.depth is not None:
            self.depth = config.depth.build(dim, self.n_layers)
        self.reversible = config.reversible

    def layers(self) -> list[BlockModule]:
        """The block of each layer; some are the same object where layers share weights."""
        sizes = (self.n_layers, self.n_distinct, self.unit)
        return [self.blocks[served_by(i, *sizes)] for i in range(self.n_layers)]

    def __call__(self, x: mx.array, ctx: Context) -> mx.array:
        layers = self.layers()
        if self.reversible is not None:
            return run_reversible(layers, x, ctx, self.reversible)
        earlier = self._embedded(x)

        def run(i: int, x: mx.array) -> mx.array:
            key = ctx.split_key()
            x = ctx.collected.observe("layer_input", x)
            x, updated, side_outputs = self._run(i, layers[i], x, earlier, key, ctx)
            earlier.update(updated)
            ctx.collected.merge(side_outputs, i)
            return ctx.collected.observe("layer_output", x)

        return self._walk(x, ctx, run)

    def _embedded(self, x: mx.array) -> dict[str, mx.array]:
        """The stack's input `x` by name, for layers that read it; empty where none does."""
        reads = any(isinstance(block.mixer, SharedBlockMixer) for block in self.blocks)
        return {EMBEDDED: x} if reads else {}

    def _walk(self, x: mx.array, ctx: Context, run: RunLayer) -> mx.array:
        """Run the layers in their order, or as the slot `depth` has them follow each other."""
        if "depth" in self:
            y: mx.array = self.depth(x, ctx, self.n_layers, run)
            return y
        for i in range(self.n_layers):
            x = run(i, x)
            ctx.collected.add_layer(x)
        return x

    def _run(
        self,
        i: int,
        block: BlockModule,
        x: mx.array,
        earlier: dict[str, mx.array],
        key: mx.array | None,
        ctx: Context,
    ) -> tuple[mx.array, dict[str, mx.array], SideOutputs]:
        # Arrays that get a gradient and PRNG keys must be arguments of a checkpointed function.
        arrays = {"key": key, "memory": ctx.memory}
        optional = {name: array for name, array in arrays.items() if array is not None}

        def run(
            x: mx.array, earlier: dict[str, mx.array], optional: dict[str, mx.array]
        ) -> tuple[mx.array, dict[str, mx.array], SideOutputs]:
            if "key" in optional:
                optional = optional | {"key": mx.stop_gradient(optional["key"])}
            collected = ctx.collected.for_layer(i, self.n_layers)
            layer_ctx = replace(
                ctx,
                key=optional.get("key"),
                memory=optional.get("memory"),
                collected=collected,
                earlier=dict(earlier),
            )
            return block(x, layer_ctx), layer_ctx.earlier, collected.side_outputs()

        position = ctx.position
        modules: list[nn.Module] = [block]
        if isinstance(position, nn.Module):
            modules.append(position)
        if isinstance(block.mixer, SharedBlockMixer) and block.mixer.lender is not None:
            modules.append(block.mixer.lender.layers)
        f = recompute(modules, run) if i in self.recomputed else run
        f = weights_first(modules, f) if ctx.training and on_cpu() else f
        out: tuple[mx.array, dict[str, mx.array], SideOutputs] = f(x, earlier, optional)
        return out

    def init_state(
        self, batch: int, length: int, dtype: mx.Dtype, memory: mx.array | None = None
    ) -> list[Any]:
        """The decode state of every layer; cross attention reads `memory [B, S, D]`."""
        return [block.init_state(batch, length, dtype, memory) for block in self.layers()]

    def step(self, x: mx.array, states: list[Any], ctx: Context) -> tuple[mx.array, list[Any]]:
        """Continue every row by the T tokens of `x`."""
        after, layers = list(states), self.layers()
        step_ctx = replace(ctx, earlier=self._embedded(x))
        if self.reversible is not None:
            return step_reversible(layers, x, states, ctx, self.reversible)

        def run(i: int, x: mx.array) -> mx.array:
            x, after[i] = layers[i].step(x, states[i], step_ctx)
            return x

        return self._walk(x, ctx, run), after


class TowerModule(nn.Module):
    """`(tokens [B, T], ctx) -> [B, T, D]`: embed, blocks, norm."""

    places: ClassVar[dict[str, Place]] = {"embed": "below", "position": "below"}

    def __init__(
        self, config: Tower, vocab_size: int, dim: int, max_seq_len: int, table: bool = True
    ) -> None:
        super().__init__()
        self.config, self.position_dim = config, config.embed.position_width(dim)
        self.embed = config.embed.build(vocab_size, dim, table)
        self.position = config.position.build(self.position_dim, max_seq_len)
        self.stack = Stack(config, dim, max_seq_len)
        self.norm = config.norm.build(config.width(dim))
        if config.teacher_dim is not None:
            self.taught = nn.Linear(dim, config.teacher_dim, bias=False)

    def toward_teacher(self, x: mx.array) -> mx.array:
        """Vectors `[..., D]` of a layer in the width of a teacher's; Jiao et al. 2020, equations 8
        and 9, with one matrix for both, as in the authors' code."""
        y: mx.array = self.taught(x) if "taught" in self else x
        return y

    def flops(self, length: int) -> float:
        """Operations of the position's products per token, in the blocks that share it."""
        sharing = sum(block.position is None for block in self.config.layers())
        return sharing * self.config.position.flops(self.position_dim, length)

    def embed_tokens(
        self, tokens: mx.array, ctx: Context, table: nn.Embedding | None = None
    ) -> mx.array:
        """The input of the first block, `[B, T, D]`; `table` where the embedding has none."""
        ctx.position = self.position
        return self.embed(tokens, ctx, table)

    def forward(self, x: mx.array, ctx: Context) -> mx.array:
        """The normalised output of the last block, `[B, T, D]`."""
        ctx.position = self.position
        return self.norm(self.stack(x, ctx))

    def decode(
        self, tokens: mx.array, blocks: list[Any], ctx: Context
    ) -> tuple[mx.array, list[Any]]:
        """`forward` for the next tokens `[B, T]` of a decode state, and the new state."""
        x, blocks = self.stack.step(self.embed_tokens(tokens, ctx), blocks, ctx)
        return self.norm(x), blocks
