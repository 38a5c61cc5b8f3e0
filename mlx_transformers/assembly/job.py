"""Collects the sizes of a recipe's training step, from which its memory is planned."""

from dataclasses import replace

import mlx.core as mx

from ..core.errors import RunError
from ..core.footprint import FLOAT32_BYTES
from ..data.kinds import Columns
from ..distributed.zero import partition, subtree
from ..layers.block import Block
from ..layers.mixers.attention import SoftmaxHeads
from ..memory.fit import LARGEST_CHUNK
from ..memory.job import Job
from ..models.model import Model, recomputed_layers
from ..objectives.distill import Distill
from ..objectives.objective import ChunkedKind
from ..runs.folder import find_checkpoint
from ..trainer.offload import largest_page
from .parallel import parallel_rows
from .recipe import Recipe


def job(
    recipe: Recipe, model: Model, cpu: bool | None = None, ranks: int = 1, tensor_parallel: int = 1
) -> Job:
    """Collect the sizes of a recipe's training step, from which its memory is planned.

    Args:
        recipe: the recipe; "auto" counts as the fastest choice.
        model: its model, whose arrays may be lazy: nothing is evaluated.
        cpu: whether it runs on a CPU; None asks for MLX's default device.
        ranks: data-parallel processes, which share the rows of a batch.
        tensor_parallel: processes that share every layer; `model` is the part of one of them.
    """
    config = recipe.train
    optimizer = recipe.optim.split(model, config.steps)
    parameters = model.trainable_parameters()
    if config.shard_optimizer:
        parameters = subtree(parameters, partition(parameters, ranks)[0])
    optimizer.init(parameters)
    page = float(largest_page(optimizer, parameters)) if config.offload_optimizer else None
    learned = recipe.prune is not None and recipe.prune.movement is not None
    masks = recipe.prune.build(model).movement() if recipe.prune and learned else None
    chunk = chunk_of(recipe)
    rows, accumulate = config.divided
    cpu = mx.default_device() == mx.cpu if cpu is None else cpu
    return Job(
        config=recipe.model,
        model=model,
        state=optimizer.state if masks is None else [optimizer.state, masks.state],
        vocab_size=model.vocab_size,
        batch_size=max(1, rows // ranks),
        columns=columns(recipe),
        accumulate=accumulate,
        dtype=config.dtype,
        recomputed=recomputed_layers(model),
        chunk=chunk if isinstance(chunk, int) else LARGEST_CHUNK,
        ema=config.ema is not None,
        cpu=cpu,
        teacher_bytes=teacher_bytes(recipe),
        soft_targets=recipe.objective.learns_soft_targets,
        relation_bytes=relation_bytes(recipe, max(1, rows // ranks)),
        snapshots=recipe.checkpoint.in_background,
        tensor_parallel=tensor_parallel,
        page_bytes=page,
        streams=parallel_rows(recipe, ranks * tensor_parallel).wanted if cpu else 1,
    )


def columns(recipe: Recipe) -> Columns:
    """Sequence lengths of a recipe's batches."""
    columns = recipe.data.batch.columns(recipe.train.seq_len)
    return replace(columns, masked=True) if recipe.data.mask_documents else columns


def teacher_bytes(recipe: Recipe) -> float | None:
    """Bytes of the frozen models of a recipe's objective: the size of their checkpoints.

    None if a checkpoint cannot be found.
    """
    runs = recipe.objective.frozen()
    try:
        files = [find_checkpoint(run)[1] / "model.safetensors" for run in runs.values()]
        return float(sum(file.stat().st_size for file in files))
    except (RunError, OSError):
        return None


def relation_bytes(recipe: Recipe, rows: int) -> float:
    """Bytes of the relations of attention that the objective compares, by `rows` of a batch."""
    objective = recipe.objective
    if not isinstance(objective, Distill) or objective.relations is None:
        return 0.0
    last, of = recipe.model.towers()[-1].layers[-1], objective.relations.of
    mixer = last.mixer if isinstance(last, Block) else None
    n_heads = mixer.n_heads if isinstance(mixer, SoftmaxHeads) else 1
    # "attention" compares the probabilities of the model's own heads.
    heads = (
        n_heads if name == "attention" else objective.relations.heads or n_heads for name in of
    )
    return float(rows * sum(heads) * columns(recipe).target ** 2 * FLOAT32_BYTES)


def chunk_of(recipe: Recipe) -> int | str | None:
    """`objective.chunk`; None where the loss is not computed in chunks."""
    return recipe.objective.chunk if isinstance(recipe.objective, ChunkedKind) else None
