"""What each kind of block costs: one of each alone, and its mixer and ffn alone."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from ..assembly.build import Built
from ..core.context import Context
from ..core.tree import cast
from ..models.model import layers_of
from ..trainer.step import Batch
from .timing import Spread, in_turns

STEP = "whole step"


@dataclass(frozen=True)
class BlockCost:
    """A part of the model on its own, for one microbatch.

    Attributes:
        part: "block", or the pattern's name; "… mixer" and "… ffn" are parts of the one above.
        kind: what fills it.
        count: how often the model has it.
        forward_s: seconds of one pass.
        gradients_s: seconds of one pass with the gradients of its weights and its input.
        whole: whether it is a block, and not a part of one.
        share: of a whole step timed in the same turns, for all blocks and microbatches like it.
    """

    part: str
    kind: str
    count: int
    forward_s: Spread
    gradients_s: Spread
    whole: bool
    share: float


def block_costs(built: Built, batches: list[Batch], rounds: int) -> list[BlockCost]:
    """The costs of every distinct block; none where a model is not made of blocks.

    `batches` are the microbatches of the step that they are a share of.
    """
    config: Any = built.recipe.model
    if not hasattr(config, "layers"):
        return []
    layers, names = config.layers(), config.pattern or ["block"]
    groups: dict[str, list[int]] = {}
    for i, layer in enumerate(layers):
        groups.setdefault(repr(layer), []).append(i)
    found: list[tuple[str, str, int, bool]] = []
    step = built.step
    tasks: dict[str, Callable[[], Any]] = {STEP: lambda: (step(batches, 0), step.state)}
    for places in groups.values():
        layer, module = layers[places[0]], layers_of(built.model)[places[0]]
        name, mixer = names[places[0] % len(names)], layer.mixer.kind
        pieces: list[tuple[str, str, Any]] = [(f"{name} mixer", mixer, module.mixer)]
        if layer.ffn is not None:
            pieces.append((f"{name} ffn", layer.ffn.kind, module.ffn))
        pieces.insert(0, (name, " + ".join(kind for _, kind, _ in pieces), module))
        for part, kind, piece in pieces:
            found.append((part, kind, len(places), piece is module))
            tasks |= _tasks(part, piece, built)
    took = in_turns(tasks, rounds)
    return [_cost(one, took, len(batches)) for one in found]


def _cost(one: tuple[str, str, int, bool], took: dict[str, list[float]], batches: int) -> BlockCost:
    part, kind, count, whole = one
    forward, gradients = took[f"{part} forward"], took[f"{part} gradients"]
    shares = [mine / step for mine, step in zip(gradients, took[STEP], strict=True)]
    share = Spread.of(shares).median * count * batches
    return BlockCost(part, kind, count, Spread.of(forward), Spread.of(gradients), whole, share)


def _tasks(part: str, module: nn.Module, built: Built) -> dict[str, Callable[[], Any]]:
    """The compiled pass of one module, and that with gradients, as functions of nothing."""
    train, dtype = built.recipe.train, built.step.dtype
    shape = (train.batch_size, train.seq_len, built.recipe.model.dim)  # type: ignore[attr-defined]
    x = mx.random.normal(shape, key=mx.random.key(0)).astype(dtype)
    held = module.trainable_parameters()
    params, key = cast(held, dtype), mx.random.key(1)
    mx.eval(x, params, key, built.model.position.parameters())

    def run(params: Any, x: mx.array, key: mx.array) -> mx.array:
        module.update(params)
        y = module(x, Context(key=key, position=built.model.position))
        module.update(held)
        return y

    def total(params: Any, x: mx.array, key: mx.array) -> mx.array:
        return run(params, x, key).astype(mx.float32).sum()

    forward = mx.compile(run)
    gradients = mx.compile(mx.value_and_grad(total, argnums=(0, 1)))
    return {
        f"{part} forward": lambda: forward(params, x, key),
        f"{part} gradients": lambda: gradients(params, x, key),
    }
