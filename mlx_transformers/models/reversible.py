"""Reversible stacks: blocks over two streams, whose backward computes activations again.

    y1 = x1 + mixer(x2)      y2 = x2 + ffn(y1)

Gomez et al. 2017 (RevNet); Kitaev et al. 2020 (Reformer), section 3. Both streams start as the
embedded input. The forward pass saves the last two streams alone, in float32, whatever the depth;
the backward pass computes each block's input from its output.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_unflatten

from ..core.context import Collected, Context
from ..core.errors import RecipeError, RunError
from ..core.footprint import FLOAT32_BYTES, ActivationShape
from ..core.recompute import in_this_pass
from ..layers.block import Block, BlockModule
from ..layers.kinds import NormKind
from ..ops.reversible import Sublayer, reversible

Join = Literal["mean", "concatenate"]
"""How the two streams of a reversible stack end: as their mean, or side by side."""

SUBLAYERS = ("mixer", "ffn")


def check_reversible(blocks: Sequence[Block]) -> None:
    """Check that blocks can be undone.

    Raises:
        ValueError: one can't; the message names the key and the cure.
    """
    for block in blocks:
        if block.ffn is None:
            raise ValueError(
                "reversible blocks need a mixer and an ffn, one for each stream: set block.ffn, or "
                "unset reversible."
            )
        if block.cross or block.branch or block.route:
            raise ValueError(
                "reversible blocks have a mixer and an ffn alone: unset cross, branch and route, "
                "or reversible."
            )
        if block.arrangement != "sequential" or block.skip != 1.0:
            raise ValueError(
                "reversible goes with arrangement = 'sequential' and skip = 1.0: a sublayer's "
                "output is added to the other stream as it is."
            )
        if block.placement in ("post", "pre_skip"):
            raise ValueError(
                f"placement = '{block.placement}' normalises the stream itself, which can't be "
                "undone: set placement = 'pre', 'sandwich' or 'reordered', or unset reversible."
            )


@dataclass(frozen=True)
class Streams:
    """The memory of a reversible stack beside that of a block at work: its two last streams."""

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Bytes per token that the forward saves for its backward."""
        return 2.0 * dim * FLOAT32_BYTES


@dataclass(frozen=True)
class JoinedNorm:
    """The memory of a norm over both streams side by side."""

    norm: NormKind

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Bytes per token that the forward saves for its backward."""
        return self.norm.saved_bytes(2 * dim, at)


def run_reversible(blocks: Sequence[BlockModule], x: mx.array, ctx: Context, end: Join) -> mx.array:
    """The output of a stack, `[B, T, D]`, or `[B, T, 2 * D]` of streams side by side.

    Raises:
        RecipeError: the objective asks for the output of each layer.
        RunError: the pass has an observer.
    """
    if ctx.collected.layers is not None:
        raise RecipeError(
            "This objective reads the output of every layer, and a reversible stack doesn't keep "
            "them: unset model.reversible."
        )
    if ctx.collected.observer is not None:
        raise RunError(
            "A reversible stack computes its layers again instead of keeping them, so nobody can "
            "look into it (model.reversible)."
        )
    names: list[list[str]] = []
    sublayers, parameters = [], []
    for block in blocks:
        for name in SUBLAYERS:
            modules = _modules(block, name, ctx)
            parameters.append({n: m.trainable_parameters() for n, m in modules.items()})
            keyed = replace(ctx, key=ctx.split_key(), collected=ctx.collected.for_layer())
            names.append([])
            sublayers.append(_sublayer(block, name, modules, keyed, x.dtype, names[-1]))
    stream = x.astype(mx.float32)
    y1, y2, side_outputs = reversible(sublayers, parameters, stream, stream)
    for i in range(len(blocks)):
        both = slice(2 * i, 2 * i + 2)
        for layer_names, values in zip(names[both], side_outputs[both], strict=True):
            if layer_names:
                outputs: Any = tree_unflatten(list(zip(layer_names, values, strict=True)))
                ctx.collected.merge(Collected().side_outputs() | outputs, i)
    return join(y1, y2, end).astype(x.dtype)


def step_reversible(
    blocks: Sequence[BlockModule], x: mx.array, states: Sequence[Any], ctx: Context, end: Join
) -> tuple[mx.array, list[Any]]:
    """Continue every row by the T tokens of `x`; returns the output and the new states."""
    after = []
    y1 = y2 = x.astype(mx.float32)
    for block, state in zip(blocks, states, strict=True):
        new = dict(state)
        y, new = block.added_step("mixer", y2.astype(x.dtype), new, ctx)
        y1 = y1 + y
        y, new = block.added_step("ffn", y1.astype(x.dtype), new, ctx)
        y2 = y2 + y
        after.append(new)
    return join(y1, y2, end).astype(x.dtype), after


def join(y1: mx.array, y2: mx.array, end: Join) -> mx.array:
    """The two streams as one array."""
    return mx.concatenate([y1, y2], axis=-1) if end == "concatenate" else 0.5 * (y1 + y2)


def _modules(block: BlockModule, name: str, ctx: Context) -> dict[str, nn.Module]:
    """The modules that a sublayer reads: whatever has a gradient must be among them."""
    modules = {name: block[name], "residual": block[f"{name}_residual"]}
    position = block.position if "position" in block else ctx.position
    return modules | ({"position": position} if isinstance(position, nn.Module) else {})


def _sublayer(
    block: BlockModule,
    name: str,
    modules: dict[str, nn.Module],
    ctx: Context,
    dtype: mx.Dtype,
    names: list[str],
) -> Sublayer:
    """A sublayer as a function of its parameters and its input; fills in the side outputs' names.

    Each call starts from the same context, so that a second one draws the same dropout.
    """

    def run(x: mx.array) -> tuple[mx.array, list[mx.array]]:
        key = None if ctx.key is None else mx.stop_gradient(ctx.key)
        pass_ctx = replace(ctx, key=key, collected=ctx.collected.for_layer())
        y = block.added(name, x.astype(dtype), pass_ctx)
        side_outputs = tree_flatten(pass_ctx.collected.side_outputs())
        names[:] = [output_name for output_name, _ in side_outputs]
        return y, [value for _, value in side_outputs]

    again = in_this_pass(list(modules.values()), run)
    return lambda parameters, x: again([parameters.get(n, {}) for n in modules], x)
