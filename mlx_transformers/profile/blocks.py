"""The cost of each kind of layer: one of each alone, and the parts of a block alone.

Towers and their layers come from the model kind (`ModelKind.towers`), so every model kind is
measured: decoders, encoders, encoder-decoders, pairs and recurrent models. Layers that are neither
blocks nor recurrent layers are not measured on their own.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from ..assembly.build import Built
from ..assembly.job import columns
from ..core.context import Context, Layout
from ..core.tree import cast
from ..layers.block import BlockModule
from ..layers.positions.position import Position
from ..layers.recurrence import LayerModule, RecurrentLayer
from ..models.model import TowerSpec
from ..models.stack import TowerModule
from ..trainer.forward import Batch
from .timing import Spread, in_turns

STEP = "whole step"

Run = Callable[[mx.array, Context], mx.array]


@dataclass(frozen=True)
class BlockCost:
    """The cost of a part of the model on its own, for one microbatch.

    Attributes:
        part: the layer's name, with its tower's where there are several; "… mixer", "… cross" and
            "… ffn" are parts of the layer above.
        kind: the kinds that fill its slots.
        count: how often the model has it.
        forward_s: seconds of a forward pass.
        gradients_s: seconds of a pass with the gradients of its weights and its input.
        whole: whether it is a layer, and not a part of one.
        share: share of a whole step, timed in the same turns, of all such layers and microbatches.
    """

    part: str
    kind: str
    count: int
    forward_s: Spread
    gradients_s: Spread
    whole: bool
    share: float


@dataclass(frozen=True)
class _Part:
    """A part to measure: its name, kinds and number, its module, and how to run it on `x`."""

    name: str
    kind: str
    count: int
    whole: bool
    module: nn.Module
    run: Run
    x: mx.array
    ctx: Context


def block_costs(built: Built, batches: list[Batch], rounds: int) -> list[BlockCost]:
    """Measure every distinct layer of every tower.

    `batches` are the microbatches of the step that they are a share of.
    """
    parts = [part for tower in _towers(built) for part in tower]
    step = built.step
    tasks: dict[str, Callable[[], Any]] = {STEP: lambda: (step(batches, 0), step.state)}
    for part in parts:
        tasks |= _tasks(part, step.dtype)
    took = in_turns(tasks, rounds)
    return [_cost(part, took, len(batches)) for part in parts]


def _cost(part: _Part, took: dict[str, list[float]], batches: int) -> BlockCost:
    forward, gradients = took[f"{part.name} forward"], took[f"{part.name} gradients"]
    shares = [mine / step for mine, step in zip(gradients, took[STEP], strict=True)]
    share = Spread.of(shares).median * part.count * batches
    spreads = Spread.of(forward), Spread.of(gradients)
    return BlockCost(part.name, part.kind, part.count, *spreads, part.whole, share)


def _towers(built: Built) -> Iterator[list[_Part]]:
    """The parts of each tower."""
    specs, stacks = built.recipe.model.towers(), built.model.stacks()
    for spec, stack in zip(specs, stacks, strict=True):
        groups: dict[str, list[int]] = {}
        for i, layer in enumerate(spec.layers):
            groups.setdefault(repr(layer), []).append(i)
        modules = stack.layers()
        parts: list[_Part] = []
        for places in groups.values():
            name = spec.names[places[0] % len(spec.names)]
            name = f"{spec.path} {name}".strip()
            if any(part.name == name for part in parts):
                name = f"{name} {places[0]}"
            module = modules[places[0]]
            x, ctx = _pass(built, spec)
            if isinstance(module, BlockModule):
                parts += _block(name, module, len(places), x, ctx)
            elif isinstance(module, LayerModule):
                layer = spec.layers[places[0]]
                assert isinstance(layer, RecurrentLayer)
                shape = (*x.shape[:2], layer.in_dim)
                x = mx.random.normal(shape, key=mx.random.key(0)).astype(x.dtype)
                parts.append(_recurrent(name, module, layer.cell.kind, len(places), x, ctx))
        yield parts


def _pass(built: Built, spec: TowerSpec) -> tuple[mx.array, Context]:
    """Random input of a tower, and the context of its training pass."""
    train, dtype = built.recipe.train, built.step.dtype
    sizes = columns(built.recipe)
    encodes = spec.reads_source and bool(sizes.source)
    length = -(-sizes.source // spec.stride) if encodes else train.seq_len
    shape = (train.batch_size, length, spec.dim)
    x = mx.random.normal(shape, key=mx.random.key(0)).astype(dtype)
    module: Any = built.model[spec.path] if spec.path else built.model
    ctx = Context(position=module.position if isinstance(module, TowerModule) else Position())
    if encodes or ("causal_lm" not in built.model.tasks and not sizes.source):
        ctx.layout = Layout(causal=False)
    if sizes.source and not encodes:
        memory = (train.batch_size, sizes.source, spec.dim)
        ctx.memory = mx.random.normal(memory, key=mx.random.key(2)).astype(dtype)
    return x, ctx


def _block(
    name: str, module: BlockModule, count: int, x: mx.array, ctx: Context
) -> Iterator[_Part]:
    """A block, and its mixer, cross-attention and ffn."""
    slots = ("mixer", "cross", "ffn")
    config = module.config
    kinds = {slot: kind for slot in slots if (kind := getattr(config, slot)) is not None}
    label = " + ".join(kind.kind for kind in kinds.values())
    yield _Part(name, label, count, True, module, module, x, ctx)
    for slot, kind in kinds.items():
        part = module[slot]
        yield _Part(f"{name} {slot}", kind.kind, count, False, part, part, x, ctx)


def _recurrent(
    name: str, module: LayerModule, kind: str, count: int, x: mx.array, ctx: Context
) -> _Part:
    """A recurrent layer over a whole row, from the zero state."""

    def run(x: mx.array, ctx: Context) -> mx.array:
        y, _ = module(x, module.init_state(x.shape[0], x.dtype), ctx)
        return y

    return _Part(name, kind, count, True, module, run, x, ctx)


def _tasks(part: _Part, dtype: mx.Dtype) -> dict[str, Callable[[], Any]]:
    """The compiled forward pass of a part, and that with gradients, as functions of nothing."""
    original = part.module.trainable_parameters()
    params, key = cast(original, dtype), mx.random.key(1)
    position = part.ctx.position
    tables = position.parameters() if isinstance(position, nn.Module) else {}
    mx.eval(part.x, part.ctx.memory, params, key, tables)

    def run(params: Any, x: mx.array, key: mx.array) -> mx.array:
        part.module.update(params)
        ctx = Context(
            layout=part.ctx.layout, memory=part.ctx.memory, position=part.ctx.position, key=key
        )
        y = part.run(x, ctx)
        part.module.update(original)
        return y

    def total(params: object, x: mx.array, key: mx.array) -> mx.array:
        return run(params, x, key).astype(mx.float32).sum()

    forward = mx.compile(run)
    gradients = mx.compile(mx.value_and_grad(total, argnums=(0, 1)))
    return {
        f"{part.name} forward": lambda: forward(params, part.x, key),
        f"{part.name} gradients": lambda: gradients(params, part.x, key),
    }
