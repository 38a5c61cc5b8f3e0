"""Predicts the memory of a training step by part, and its peak, from sizes alone.

A step passes through phases, and its peak is the largest of them:

    loss        all saved activations, and the logits that are alive at once
    block L..0  activations still saved, the block's working memory, weight gradients so far
    embeddings  all weight gradients, and the working memory of an embedding that computes
    update      all gradients, and new weights and optimizer moments beside the old ones

Each layer declares the activations it saves (`saved_bytes`, core/footprint.py). The working memory
of the backward depends on how far the device's queue runs ahead: `Queue`, measured per backend.
"""

from dataclasses import dataclass, field, replace

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from ..core.footprint import FLOAT32_BYTES
from ..layers.block import Block
from ..layers.kinds import EmbedKind
from ..layers.recurrence import RecurrentLayer
from ..layers.residual import NORMS
from ..objectives.chunked_loss import rows_of_chunk
from .job import Job, Part


@dataclass(frozen=True)
class LossQueue:
    """Memory alive during the loss.

    Attributes:
        chunk, chunks: arrays `[chunk, V]` alive for one chunk of the loss, and at most for all.
        head: arrays `[V, D]`.
        rows: arrays `[N, D]`, N the predicted tokens.
        soft: arrays `[N, V]` of a loss against a teacher's logits, whose backward does not go chunk
            by chunk.
        related, comparing: arrays `[B, H, T, T]` for each compared relation of attention (MiniLM),
            beside the logits and in all.
    """

    chunk: float
    chunks: float
    head: float
    rows: float
    soft: float
    related: float
    comparing: float


@dataclass(frozen=True)
class BackwardQueue:
    """Working memory of the backward of one layer, and what stays alive beside it.

    Attributes:
        head: arrays `[V, D]` alive during the backward of the blocks.
        sublayer: of a block, relative to the mean saved bytes of its sublayers (mixer, cross
            attention, ffn): the more operations a block has, the less of it is queued at once.
        parted: takes the place of `sublayer` where several CPU streams share the queue.
        states: of a backward that recomputes the states of a scan, relative to the bytes of those
            states; the larger of it and `sublayer`'s counts.
        again: of a recomputed block, relative to the same: its forward runs again while the next
            block's is queued.
        layer: of a recurrent layer, relative to its saved bytes.
        looped: of attention inside a recurrent loop, relative to the gradients of the source that
            its T steps compute, `[B, T, S, D]`.
        shared: of a block that shares its weights with one below, relative to its saved bytes: the
            gradient of the weights is computed once all of its layers are done.
    """

    head: float
    sublayer: float
    parted: float
    states: float
    again: float
    layer: float
    looped: float
    shared: float


@dataclass(frozen=True)
class Queue:
    """Memory that is alive because the device's queue allocates outputs ahead of their turn.

    Attributes:
        loss, backward: what each phase holds.
        leaves: parameters whose new values the update computes before old ones are freed.
    """

    loss: LossQueue
    backward: BackwardQueue
    leaves: int


CPU_QUEUE = Queue(
    # soft: mlxt train distilbert_tiny; related, comparing: mlxt train minilm_tiny --steps 60
    loss=LossQueue(
        chunk=3.1, chunks=6.0, head=5.0, rows=5.0, soft=3.4, related=2.0, comparing=10.0
    ),
    backward=BackwardQueue(
        head=4.0, sublayer=5.5, parted=4.2, states=5.2, again=7.2, layer=1.9, looped=1.5, shared=0.9
    ),
    leaves=34,
)
"""MLX 0.32.4 on Linux, about 50 operations ahead. Fitted to the peaks of `python
tools/bench_plan.py`, or of the command above a line."""

GPU_QUEUE = CPU_QUEUE
"""Not yet calibrated on Metal: measured peaks of runs correct the plan (memory/record.py)."""


PAGED_STATE, PAGED_GRADIENTS = 3.2, 1.8
"""Bytes in memory during an update, relative to the state of the largest page, and to its gradients
and new weights."""

NO_TEACHER = "The teacher's run does not exist yet, so its weights are not counted."


@dataclass(frozen=True)
class Account:
    """Bytes by part, and the largest phase.

    Attributes:
        held: parts that live through the whole run, such as weights.
        saved: activations that the forward saves for the backward, by part.
        phases: the most bytes alive in each phase, `held` included.
        notes: sentences on parts that could not be counted.
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
        """The phase of the peak."""
        return max(self.phases, key=lambda name: self.phases[name])

    @property
    def parts(self) -> dict[str, float]:
        """All parts of the peak, which add up to it."""
        lasting = {**self.held, **self.saved}
        working = self.peak - sum(lasting.values())
        return {**lasting, f"at the peak ({self.phase})": working}


def account(job: Job) -> Account:
    """Predict the memory of one training step of a job."""
    queue = _queue(job)
    layers = list(job.layers())
    saved = [_saved(job, i, layer) for i, layer in enumerate(layers)]
    edges = _edges(job, layers[-1].input_bytes if layers else 0.0)
    held = _held(job)
    always = sum(held.values()) + edges
    last_working = _working(layers[-1], queue.backward) if layers else 0.0
    further_heads = 0.0 if _head_is_frozen(job) else (job.parts - 1) * _embedding(job)
    phases = {"loss": always + sum(saved) + _loss(job, queue.loss, last_working) + further_heads}
    for i, size in _backward(job, queue, layers, saved).items():
        phases[f"backward of block {i}"] = always + size
    phases["backward of embeddings"] = always + _embeddings(job, queue.backward)
    phases["update"] = sum(held.values()) + _update(job, queue)
    activations = {"activations of blocks": sum(saved), "activations of embedding and head": edges}
    notes = [] if job.teacher_bytes is not None else [NO_TEACHER]
    return Account(held, activations, phases, notes)


def _queue(job: Job) -> Queue:
    """The constants of the device's queue, by whether parts of a batch share it."""
    queue = CPU_QUEUE if job.cpu else GPU_QUEUE
    if job.parts == 1:
        return queue
    return replace(queue, backward=replace(queue.backward, sublayer=queue.backward.parted))


def _saved(job: Job, i: int, layer: Part) -> float:
    """Bytes that the forward of layer number i saves for its backward."""
    if layer.reversible:
        return 0.0
    return layer.input_bytes if i in job.recomputed else layer.saved_bytes


def _backward(job: Job, queue: Queue, layers: list[Part], saved: list[float]) -> dict[int, float]:
    """Bytes alive during the backward of each block, by its number, the last block first.

    They are the activations of the blocks below it, its own with its working memory, and the
    gradients of the weights above it.
    """
    modules = [block for stack in job.model.stacks() for block in stack.layers()]
    alive: dict[int, float] = {}
    working = queue.backward
    gradients = working.head * _embedding(job)
    for i in reversed(range(len(layers))):
        layer = layers[i]
        block = layer.saved_bytes + _working(layer, working)
        if layer.reversible or i in job.recomputed:
            again = working.again * layer.saved_bytes / _turns(layer)
            block = saved[i] + max(again, layer.saved_bytes + _scanned(layer, working))
        alive[i] = sum(saved[:i]) + gradients + block
        if job.page_bytes is None:
            gradients += _nbytes(modules[i].trainable_parameters())
        if sum(modules[i] is other for other in modules) > 1:
            gradients += working.shared * layer.saved_bytes
    return alive


def _working(layer: Part, queue: BackwardQueue) -> float:
    """Working memory of a layer's backward, beside all saved activations."""
    if isinstance(layer.config, RecurrentLayer) and layer.config.align_in_loop:
        cells = layer.config.cell_bytes(layer.at) * layer.at.tokens
        return queue.layer * cells + queue.looped * layer.at.memory * layer.input_bytes
    if not isinstance(layer.config, Block):
        return queue.layer * layer.saved_bytes
    return max(queue.sublayer * layer.saved_bytes / _turns(layer), _scanned(layer, queue))


def _embeddings(job: Job, queue: BackwardQueue) -> float:
    """Bytes alive during the backward of an embedding that computes, such as convolutions over
    frames of sound: its working memory, as a sublayer's, and the gradients of all weights."""
    computed = [part.saved_bytes for part in job.edges() if isinstance(part.config, EmbedKind)]
    gradients = 0.0 if job.page_bytes is not None else _nbytes(job.model.trainable_parameters())
    return gradients + queue.sublayer * max(computed, default=0.0)


def _turns(layer: Part) -> int:
    """Sublayers of a block, which share its saved bytes; 2 for another kind of layer."""
    if not isinstance(layer.config, Block):
        return 2
    # A second norm around a sublayer has as many operations as the sublayer.
    return len(layer.config.sublayers) * len(NORMS[layer.config.placement])


def _scanned(layer: Part, queue: BackwardQueue) -> float:
    """Working memory of a block's backward that recomputes the states of a scan."""
    if not isinstance(layer.config, Block):
        return 0.0
    mixers = (mixer for mixer in (layer.config.mixer, layer.config.branch) if mixer is not None)
    states = max(mixer.backward_bytes(layer.dim, layer.at) for mixer in mixers) * layer.at.tokens
    return queue.states * states


def _edges(job: Job, input_bytes: float) -> float:
    """Bytes saved by embeddings, last norms and heads; a head saves its input."""
    edges = sum(part.saved_bytes for part in job.edges()) + input_bytes
    # A multi-token step saves its block, and its two input vectors before and after their norms.
    return edges + sum(part.saved_bytes + 4 * part.input_bytes for part in job.training_layers())


def _held(job: Job) -> dict[str, float]:
    """Bytes that are alive before the forward and after it, by part."""
    weights, trainable = _nbytes(job.model), _nbytes(job.model.trainable_parameters())
    # The arrays of the next step are made while this one is computed.
    microbatches = 2 * job.accumulate
    numbers = microbatches * job.batch_size * (job.columns.target + job.columns.source)
    state = _nbytes(job.state) if job.page_bytes is None else 0.0
    parts = {"weights": weights, "optimizer": state, "data": float(numbers * FLOAT32_BYTES)}
    if job.ema:
        parts["average of weights"] = trainable
    if job.dtype != "float32":
        parts[f"weights in {job.dtype}"] = weights * job.itemsize / FLOAT32_BYTES
    if job.accumulate > 1 and job.page_bytes is None:
        parts["accumulated gradients"] = trainable
    if job.snapshots:
        averaged = trainable if job.ema else 0
        parts["checkpoint that is written"] = trainable + averaged + _nbytes(job.state)
    if job.teacher_bytes:
        parts["teacher"] = job.teacher_bytes
    return parts


def _embedding(job: Job) -> float:
    """Bytes of one array `[V, D]`."""
    return float(job.vocab_size * job.dim * FLOAT32_BYTES)


def _head_is_frozen(job: Job) -> bool:
    """Whether the loss leaves out the gradient of the unembedding."""
    out = job.model.unembedding()
    return out is not None and out.frozen and not job.soft_targets


def _loss(job: Job, queue: LossQueue, working: float) -> float:
    """Bytes of the logits alive at once, of their gradients, and of the head's.

    A loss of few chunks doesn't fill the queue, which then already holds part of the last block's
    backward: `working` bytes, in proportion.
    """
    predicted = job.batch_size * (
        job.columns.target if job.soft_targets else job.columns.n_predicted
    )
    chunk = rows_of_chunk(job.chunk, _head_is_frozen(job), job.parts)
    n_chunks = -(-predicted // chunk)
    logits = float(min(chunk, predicted) * job.vocab_size * FLOAT32_BYTES)
    alive = min(queue.chunks, queue.chunk * n_chunks) * logits
    if job.soft_targets:
        alive = queue.chunks * logits + queue.soft * predicted * job.vocab_size * FLOAT32_BYTES
    head = queue.rows * predicted * job.dim * FLOAT32_BYTES
    head += 0.0 if _head_is_frozen(job) else queue.head * _embedding(job)
    filled = min(1.0, n_chunks * queue.chunk / (queue.chunks + queue.chunk * 2))
    loss = alive + max(head, (1 - filled) * working) + queue.related * job.relation_bytes
    return max(loss, queue.comparing * job.relation_bytes)


def _update(job: Job, queue: Queue) -> float:
    """Gradients, and the new weights and moments that the queue computes before old ones are freed.

    With gradient accumulation, `_held` counts the gradients. With optimizer state and gradients in
    a file, three pages are in memory (one read, one computed, one written), each with old and new
    state, gradients and new weights.
    """
    trained = job.model.trainable_parameters()
    if job.page_bytes is not None:
        total = _nbytes(job.state) + 2 * _nbytes(trained)
        share = _nbytes(job.state) / total
        pages = PAGED_STATE * share + PAGED_GRADIENTS * (1 - share)
        return min(pages * job.page_bytes, 0.75 * total)
    share = min(1.0, queue.leaves / max(1, len(tree_flatten(trained))))
    new = (_nbytes(trained) + _nbytes(job.state)) * share
    return new + (0.0 if job.accumulate > 1 else _nbytes(trained))


def _nbytes(tree: object) -> float:
    """Bytes of the arrays of a module or a tree, each once."""
    tree = tree.parameters() if isinstance(tree, nn.Module) else tree
    leaves = {id(leaf): leaf.nbytes for _, leaf in tree_flatten(tree) if isinstance(leaf, mx.array)}
    return float(sum(leaves.values()))
