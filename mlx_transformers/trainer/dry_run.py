"""Dry run of the first step: compiles it, measures it, and finds parameters without a gradient."""

import time
from dataclasses import dataclass

import mlx.core as mx
from mlx.utils import tree_flatten, tree_map

from ..core.context import Context
from ..core.device import GIB
from ..core.errors import RunError
from ..core.tree import Tree
from .forward import Batch
from .step import Step


@dataclass(frozen=True)
class DryRun:
    """Result of a dry run.

    Attributes:
        compile_s: seconds of the first step, compilation included.
        peak_gib: peak MLX memory during it.
        unused_parameters: parameters whose gradient is zero on the batch.
    """

    compile_s: float
    peak_gib: float
    unused_parameters: list[str]


def dry_run(step: Step, microbatches: list[Batch]) -> DryRun:
    """Run one step as the trainer's loop does and undo it; then find parameters without a gradient.

    Raises:
        RunError: the loss of the new model is not finite.
    """
    step.parallel.check(step.loss, microbatches[0])
    with step.undone(), step.parallel.single_threaded():
        mx.reset_peak_memory()
        started = time.perf_counter()
        metrics = step(microbatches, 0)
        mx.eval(metrics, step.state)
        seconds, peak = time.perf_counter() - started, mx.get_peak_memory() / GIB
    if not mx.isfinite(metrics["loss"]).item():
        raise RunError(
            "The loss before the first update is not a finite number. Check model.init, or set "
            "train.dtype = 'float32'."
        )
    # Two rows, since a loss that compares the rows of a batch is constant for one.
    first_rows = {name: rows[:2] for name, rows in microbatches[0].items()}
    return DryRun(seconds, peak, _unused_parameters(step, first_rows))


def _unused_parameters(step: Step, batch: Batch) -> list[str]:
    def loss(params: Tree) -> mx.array:
        return step.loss(params, batch, Context(key=mx.random.key(0))).total

    # A factor that starts at zero would hide the gradient of the one that it multiplies.
    grads = mx.grad(loss)(_without_zeros(step.model.trainable_parameters()))
    largest = {name: mx.abs(g).max() for name, g in tree_flatten(grads)}
    del grads  # each ends with its largest element
    mx.eval(largest)
    return [name for name, value in largest.items() if value.item() == 0.0]


def _without_zeros(parameters: Tree) -> Tree:
    """The parameters, with small numbers in place of those that are zero everywhere."""
    filled = tree_map(lambda p: mx.any(p != 0), parameters)
    mx.eval(filled)

    def one(parameter: mx.array, fills: mx.array) -> mx.array:
        if fills.item():
            return parameter
        noise = 0.01 * mx.random.normal(parameter.shape, key=mx.random.key(0))
        return noise.astype(parameter.dtype)

    return tree_map(one, parameters, filled)
