"""The bytes of a training step by part, and its peak, from the sizes alone: nothing is run.

A step passes through phases, and its peak is the largest of them:

    loss        all that the forward kept, and the logits that are alive at once
    block L..0  what is still kept, the block's own gradients, and weight gradients made so far
    update      all gradients, and the new weights and moments beside the old ones

What the forward keeps is said by each layer (`kept`, core/footprint.py). How much more is alive
while it is used up depends on how far the device's queue runs ahead: `Ahead`, measured per backend.
"""

from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from ..core.footprint import FLOAT32_BYTES
from ..layers.block import Block
from ..layers.residual import NORMS
from .job import Job, Reading


@dataclass(frozen=True)
class Ahead:
    """What is alive because the evaluator allocates the outputs of operations ahead of their turn.

    Attributes:
        chunk: arrays `[chunk, V]` of one chunk of the loss, and `chunks` the most of all chunks.
        head: arrays `[V, D]` beside the logits, and `head_backward` beside the blocks.
        rows: arrays `[N, D]` beside the logits, N the tokens that are told.
        sublayer: what a block's backward holds, as a multiple of what one of its sublayers keeps
            (mixer, cross attention, ffn, on average): more of them fill the queue alone, and so
            does a second norm around each.
        again: what that of a recomputed block holds, as a multiple of what its forward keeps: it
            has to run, and the next one's is running already.
        layer: the same of a recurrent layer, whose steps are many and small.
        shared: what a block holds that shares its weights with one below, as a multiple of what
            it kept: their gradient is made at once, so all waits for the lowest.
        leaves: parameters whose new values are made before the old ones are let go.
    """

    chunk: float
    chunks: float
    head: float
    head_backward: float
    rows: float
    sublayer: float
    again: float
    layer: float
    shared: float
    leaves: int


CPU_AHEAD = Ahead(
    chunk=3.1,
    chunks=6.8,
    head=4.0,
    head_backward=6.9,
    rows=7.7,
    sublayer=6.2,
    again=4.5,
    layer=1.9,
    shared=1.6,
    leaves=34,
)
"""MLX 0.32.4 on Linux: about 50 operations ahead. Fitted to the settings of tools/bench_plan.py."""

GPU_AHEAD = CPU_AHEAD
"""Not measured: no Metal was at hand. A run's own peak corrects it (memory/record.py)."""


NO_TEACHER = "The run that teaches is not there yet, so its weights are not counted."


@dataclass(frozen=True)
class Account:
    """Bytes by part, and the largest phase.

    Attributes:
        held: parts that live through the whole run.
        saved: activations that the forward saves for the backward, by part.
        phases: bytes alive at most in each phase, `held` included.
        notes: what could not be accounted for.
    """

    held: dict[str, float]
    saved: dict[str, float]
    phases: dict[str, float]
    notes: list[str] = field(default_factory=list)

    @property
    def peak(self) -> float:
        """The most bytes that are alive at once."""
        return max(self.phases.values())

    @property
    def phase(self) -> str:
        """When that is."""
        return max(self.phases, key=lambda name: self.phases[name])

    @property
    def parts(self) -> dict[str, float]:
        """Every part of the peak; they add up to it."""
        found = {**self.held, **self.saved}
        rest = self.peak - sum(found.values())
        return {**found, f"at the peak ({self.phase})": rest}


def account(job: Job, ahead: Ahead | None = None) -> Account:
    """Account for one step of a job."""
    ahead = ahead or (CPU_AHEAD if job.cpu else GPU_AHEAD)
    notes = [] if job.taught_by is not None else [NO_TEACHER]
    readings = list(job.readings())
    blocks = [_saved(each) for each in readings]
    entries = [each.entry for each in readings]
    # A recomputed block keeps its input, and the sum between mixer and ffn.
    kept = [2 * entries[i] if i in job.recomputed else one for i, one in enumerate(blocks)]
    edges = _edges(job, entries[-1])
    held = _held(job)
    base = sum(held.values()) + edges
    modules = [block for stack in job.model.stacks() for block in stack.layers()]
    grads = [_nbytes(block.trainable_parameters()) for block in modules]
    shared = [sum(block is other for other in modules) > 1 for block in modules]
    others = _nbytes(job.model.trainable_parameters()) - sum(grads)
    working = [_working(r, one, ahead) for r, one in zip(readings, blocks, strict=True)]
    phases = {"loss": base + sum(kept) + _loss(job, ahead, working[-1])}
    made = ahead.head_backward * _embedding(job)
    for i in reversed(range(len(blocks))):
        own = kept[i] + ahead.again * blocks[i] if i in job.recomputed else blocks[i] + working[i]
        phases[f"backward of block {i}"] = base + sum(kept[:i]) + made + own
        made += grads[i] + (ahead.shared * blocks[i] if shared[i] else 0.0)
    phases["update"] = sum(held.values()) + _update(job, ahead, sum(grads) + others)
    activations = {"activations of blocks": sum(kept), "activations of embedding and head": edges}
    return Account(held, activations, phases, notes)


def _saved(reading: Reading) -> float:
    """Bytes that the forward of a part saves for its backward."""
    return reading.layer.saved_bytes(reading.dim, reading.at) * reading.at.tokens


def _working(reading: Reading, kept: float, ahead: Ahead) -> float:
    """What the backward of a layer holds beside all that was kept."""
    if not isinstance(reading.layer, Block):
        return ahead.layer * kept
    # A second norm around a sublayer has as many operations as the sublayer.
    turns = len(reading.layer.sublayers) * len(NORMS[reading.layer.placement])
    return ahead.sublayer * kept / turns


def _edges(job: Job, entry: float) -> float:
    """What stands before the first block of each stack and after the last: the head reads its
    input again."""
    found = sum(_saved(each) for each in job.edges()) + entry
    # What looks ahead keeps its block, and both vectors that it joins, as they are and normed.
    return found + sum(_saved(each) + 4 * each.entry for each in job.further())


def _held(job: Job) -> dict[str, float]:
    """What is there before the forward begins, and stays."""
    weights, trainable = _nbytes(job.model), _nbytes(job.model.trainable_parameters())
    batch = (
        job.accumulate * job.batch_size * (job.columns.target + job.columns.source) * FLOAT32_BYTES
    )
    parts = {"weights": weights, "optimizer": _nbytes(job.state), "data": float(batch)}
    if job.ema:
        parts["average of weights"] = trainable
    if job.dtype != "float32":
        parts[f"weights in {job.dtype}"] = weights * job.itemsize / FLOAT32_BYTES
    if job.accumulate > 1:
        parts["accumulated gradients"] = trainable
    if job.taught_by:
        parts["teacher"] = job.taught_by
    return parts


def _embedding(job: Job) -> float:
    """Bytes of one array `[V, D]`."""
    return float(job.vocab_size * job.dim * FLOAT32_BYTES)


def _loss(job: Job, ahead: Ahead, working: float) -> float:
    """The logits alive at once, their gradients, and those of the head.

    Few chunks don't fill the queue: then the backward of the last block is in it already.
    """
    told = job.batch_size * job.columns.n_predicted
    n_chunks = -(-told // job.chunk)
    logits = float(min(job.chunk, told) * job.vocab_size * FLOAT32_BYTES)
    alive = min(ahead.chunks, ahead.chunk * n_chunks) * logits
    beside = ahead.head * _embedding(job) + ahead.rows * told * job.dim * FLOAT32_BYTES
    filled = min(1.0, n_chunks * ahead.chunk / (ahead.chunks + ahead.chunk * 2))
    return alive + max(beside, (1 - filled) * working)


def _update(job: Job, ahead: Ahead, gradients: float) -> float:
    """Gradients, and new weights and moments beside the old ones, as far as the queue runs ahead.

    The sum of microbatches is the gradient, so it isn't there twice.
    """
    trained = job.model.trainable_parameters()
    share = min(1.0, ahead.leaves / max(1, len(tree_flatten(trained))))
    new = (_nbytes(trained) + _nbytes(job.state)) * share
    return new + (0.0 if job.accumulate > 1 else gradients)


def _nbytes(tree: Any) -> float:
    """Bytes of the arrays of a module or a tree, each once."""
    tree = tree.parameters() if hasattr(tree, "parameters") else tree
    leaves = {id(leaf): leaf.nbytes for _, leaf in tree_flatten(tree) if isinstance(leaf, mx.array)}
    return float(sum(leaves.values()))
