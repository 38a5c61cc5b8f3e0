"""Before step 1: do all parameters learn, and does the step run at all?"""

import time
from dataclasses import dataclass

import mlx.core as mx
from mlx.utils import tree_flatten

from ..core.context import Context
from ..core.device import GIB
from ..core.errors import RunError
from ..core.tree import Tree, assign, snapshot
from .step import Batch, Step


@dataclass(frozen=True)
class Probe:
    """What a dry run found.

    Attributes:
        compile_s: seconds that the first step took, compilation included.
        peak_gib: most memory that MLX held during it.
        idle: parameters that got no gradient from the batch.
    """

    compile_s: float
    peak_gib: float
    idle: list[str]


def probe(step: Step, microbatches: list[Batch]) -> Probe:
    """Run one whole step and undo it; then look for parameters without a gradient.

    Raises:
        RunError: the loss of the fresh model is not finite.
    """
    mx.eval(step.state)
    held = snapshot(step.state[:-1])
    mx.reset_peak_memory()
    started = time.perf_counter()
    metrics = step(microbatches, 0)
    mx.eval(metrics, step.state)
    seconds, peak = time.perf_counter() - started, mx.get_peak_memory() / GIB
    for live, saved in zip(step.state[:-1], held, strict=True):
        assign(live, saved)
    if not mx.isfinite(metrics["loss"]).item():
        raise RunError(
            "The loss of the fresh model is not a finite number. Look at model.init, or train in "
            "float32."
        )
    return Probe(
        seconds, peak, _without_gradient(step, {k: v[:1] for k, v in microbatches[0].items()})
    )


def _without_gradient(step: Step, batch: Batch) -> list[str]:
    def loss(params: Tree) -> mx.array:
        return step.loss(params, batch, Context(key=mx.random.key(0))).total

    grads = mx.grad(loss)(step.model.trainable_parameters())
    largest = {name: mx.abs(g).max() for name, g in tree_flatten(grads)}
    mx.eval(largest)
    return [name for name, value in largest.items() if value.item() == 0.0]
