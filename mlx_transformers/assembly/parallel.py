"""Whether CPU streams share the rows of a recipe's batches."""

import mlx.core as mx

from ..core import backend, cpu_streams
from ..trainer.parallel_rows import ParallelRows
from .recipe import Recipe


def parallel_rows(recipe: Recipe, processes: int = 1) -> ParallelRows:
    """How a training step of a recipe computes the rows of a batch: in as many parts as this
    machine has CPU streams, or whole.

    The first batch may show more reasons to compute it whole (`trainer.parallel_rows`).

    Args:
        recipe: the recipe.
        processes: those that train it together.

    Raises:
        RunError: the environment asks for something that is no number of streams.
    """
    report, asked = backend.prepare(), (cpu_streams.asked() or 1) > 1
    count = report.cpu_streams if mx.default_device() == mx.cpu else 1
    if count > 1:
        why = _why_whole(recipe, processes)
    else:
        why = (report.one_stream or "The GPU computes it.") if asked else ""
    return ParallelRows(1 if why else count, why, asked)


def settle_as_before(
    parallel: ParallelRows, recipe: Recipe, earlier: int | None, processes: int = 1
) -> None:
    """Compute the rows of a resumed run in as many parts as before, so that it goes on bit for bit.

    A number that a user names comes first, and so does a machine with other streams.

    Args:
        parallel: how this process would compute them by itself.
        recipe: the recipe.
        earlier: the parts of the run's earlier steps; None where there were none.
        processes: those that train it together.
    """
    if earlier is None or cpu_streams.asked() is not None:
        return
    if earlier == 1 or parallel_rows(recipe, processes).wanted == earlier:
        parallel.settle(earlier)


def _why_whole(recipe: Recipe, processes: int) -> str:
    """The reason why a recipe's batches can't be computed in parts, as far as it tells."""
    train = recipe.train
    if recipe.objective.couples_rows:
        return recipe.objective.couples_rows
    if "starts" in recipe.source.gives(recipe.data.batch):
        return "Each row carries its state from batch to batch."
    if recipe.source.generates:
        return "Rollouts are generated between its steps, with all threads."
    if train.noise_scale:
        return "The gradient noise scale compares microbatches."
    if train.offload_optimizer:
        return "Its gradients go to a file page by page."
    if train.dtype != "float32":
        return f"It computes in {train.dtype}, which CPUs do slowly."
    if processes > 1:
        return "Several processes share its rows already."
    return ""
