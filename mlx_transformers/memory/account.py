"""The bytes of a training step by part, and its peak, from the sizes alone: nothing is run.

A step passes through phases, and its peak is the largest of them:

    loss        all that the forward kept, and the logits that are alive at once
    block L..0  what is still kept, the block's own gradients, and weight gradients made so far
    update      all gradients, and the new weights and moments beside the old ones

What the forward keeps is said by each layer (`kept`, core/footprint.py). How much more is alive
while it is used up depends on how far the device's queue runs ahead: `Ahead`, measured per backend.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from ..core.footprint import WIDE, Pass
from ..models.stack import towers


@dataclass(frozen=True)
class Ahead:
    """What is alive because the evaluator allocates the outputs of operations ahead of their turn.

    Attributes:
        chunk: arrays `[chunk, V]` of one chunk of the loss, and `chunks` the most of all chunks.
        head: arrays `[V, D]` beside the logits, and `head_backward` beside the last block.
        rows: arrays `[N, D]` beside the logits, and `stream` beside a block.
        block: what a block's backward holds, as a multiple of what its forward kept.
        again: the same of a block that is recomputed: its forward has to run, and the next one's
            is running already.
        leaves: parameters whose new values are made before the old ones are let go.
    """

    chunk: float
    chunks: float
    head: float
    head_backward: float
    rows: float
    block: float
    again: float
    stream: float
    leaves: int


CPU_AHEAD = Ahead(
    chunk=3.1,
    chunks=7.0,
    head=3.8,
    head_backward=2.0,
    rows=2.2,
    block=3.0,
    again=4.5,
    stream=4.0,
    leaves=34,
)
"""MLX 0.32.4 on Linux: about 50 operations ahead. Fitted to a 1M-parameter model's peaks over its
depth, width, vocabulary, chunk and rows; held to others by tools/bench_plan.py."""

GPU_AHEAD = CPU_AHEAD
"""Not measured: no Metal was at hand. A run's own peak corrects it (memory/record.py)."""


@dataclass(frozen=True)
class Job:
    """What is to be trained, as sizes. `model` may be lazy: only its shapes are read.

    Attributes:
        config: the model's typed table.
        model, state: the module, and the optimizer's state for it; arrays need not be evaluated.
        vocab_size: rows of the head, V.
        recomputed: blocks whose activations are computed again.
        chunk: rows of logits at once.
        ema: whether an average of the weights is kept.
        sharers: processes that share the blocks, of which `model` and `state` are one's part.
    """

    config: Any
    model: Any
    state: Any
    vocab_size: int
    batch_size: int
    seq_len: int
    accumulate: int = 1
    dtype: str = "float32"
    recomputed: frozenset[int] = frozenset()
    chunk: int = 512
    ema: bool = False
    cpu: bool = True
    sharers: int = 1

    @property
    def width(self) -> int:
        """Bytes of a number that the forward computes with."""
        return WIDE if self.dtype == "float32" else WIDE // 2

    @property
    def at(self) -> Pass:
        """The pass over one microbatch."""
        return Pass(self.batch_size, self.seq_len, self.width, self.cpu)


@dataclass(frozen=True)
class Account:
    """Bytes by part, and the largest phase.

    Attributes:
        held: parts that live through the whole run.
        kept: what the forward keeps for the backward, by part.
        phases: bytes alive at most in each phase, `held` included.
        notes: what could not be accounted for.
    """

    held: dict[str, float]
    kept: dict[str, float]
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
        found = {**self.held, **self.kept}
        rest = self.peak - sum(found.values())
        return {**found, f"at the peak ({self.phase})": rest}


def account(job: Job, ahead: Ahead | None = None) -> Account:
    """Account for one step of a job."""
    ahead = ahead or (CPU_AHEAD if job.cpu else GPU_AHEAD)
    notes: list[str] = []
    blocks = _blocks(job, notes)
    entry = float(job.config.dim * job.width * job.at.tokens)
    # A recomputed block keeps its input, and the sum between mixer and ffn.
    kept = [2 * entry if i in job.recomputed else bytes for i, bytes in enumerate(blocks)]
    edges = _edges(job, entry, notes)
    held = _held(job)
    base = sum(held.values()) + edges
    grads = [_nbytes(block) for stack in job.model.stacks() for block in stack.layers()]
    others = _nbytes(job.model) - sum(grads)
    below = _embedding(job)
    phases = {"loss": base + sum(kept) + _loss(job, ahead, blocks, entry)}
    made = ahead.head_backward * below
    for i in reversed(range(len(blocks))):
        again = i in job.recomputed
        working = (ahead.again if again else ahead.block) * blocks[i] + ahead.stream * entry
        phases[f"backward of block {i}"] = base + sum(kept[: i + (not again)]) + made + working
        if again:
            phases[f"backward of block {i}"] += kept[i]
        made += grads[i]
    phases["update"] = sum(held.values()) + _update(job, ahead, sum(grads) + others)
    activations = {"activations of blocks": sum(kept), "activations of embedding and head": edges}
    return Account(held, activations, phases, notes)


def _blocks(job: Job, notes: list[str]) -> list[float]:
    """What each layer keeps."""
    layers = _shared(job, job.config.layers())
    placed = [tower for tower in towers(job.config) if hasattr(tower, "position")]
    positions = [b.position or tower.position for tower in placed for b in tower.layers()]
    positions = positions or [None] * len(layers)  # recurrent layers have none
    return [
        _kept(layer, job, notes, biased=getattr(position, "adds_to_scores", False))
        for layer, position in zip(layers, positions, strict=True)
    ]


def _shared(job: Job, layers: list[Any]) -> list[Any]:
    """The layers as one of the processes that share them has them."""
    if job.sharers == 1:
        return layers
    return [layer.part(job.config.dim, job.sharers) for layer in layers]


def _kept(part: Any, job: Job, notes: list[str], *, biased: bool = False) -> float:
    """Bytes that a part keeps; a kind that doesn't say is noted, and counted as nothing."""
    try:
        return float(part.kept(job.config.dim, replace(job.at, biased=biased))) * job.at.tokens
    except AttributeError:
        notes.append(f"A {type(part).__name__} holds a kind that doesn't say what it keeps.")
        return 0.0


def _edges(job: Job, entry: float, notes: list[str]) -> float:
    """What stands before the first block of each stack and after the last: the head reads its
    input again."""
    tables = towers(job.config)
    parts = [getattr(tower, name, None) for tower in tables for name in ("embed", "norm")]
    found = sum(_kept(part, job, notes) for part in parts if part is not None) + entry
    further = _shared(job, getattr(job.config, "ahead_blocks", list)())
    # What looks ahead keeps its block, and both vectors that it joins, as they are and normed.
    return found + sum(_kept(block, job, notes) + 4 * entry for block in further)


def _held(job: Job) -> dict[str, float]:
    """What is there before the forward begins, and stays."""
    weights = _nbytes(job.model)
    batch = job.accumulate * job.batch_size * (job.seq_len + 1) * WIDE
    parts = {"weights": weights, "optimizer": _nbytes(job.state), "data": float(batch)}
    if job.ema:
        parts["average of weights"] = weights
    if job.dtype != "float32":
        parts[f"weights in {job.dtype}"] = weights * job.width / WIDE
    if job.accumulate > 1:
        parts["accumulated gradients"] = weights
    return parts


def _embedding(job: Job) -> float:
    """Bytes of one array `[V, D]`."""
    return float(job.vocab_size * job.config.dim * WIDE)


def _loss(job: Job, ahead: Ahead, blocks: Sequence[float], entry: float) -> float:
    """The logits alive at once, their gradients, and those of the head.

    Few chunks don't fill the queue: then the backward of the last block is in it already.
    """
    tokens = job.at.tokens
    n_chunks = -(-tokens // job.chunk)
    logits = float(min(job.chunk, tokens) * job.vocab_size * WIDE)
    alive = min(ahead.chunks, ahead.chunk * n_chunks) * logits
    beside = ahead.head * _embedding(job) + ahead.rows * entry * WIDE / job.width
    filled = min(1.0, n_chunks * ahead.chunk / (ahead.chunks + ahead.chunk * 2))
    working = ahead.block * blocks[-1] + ahead.stream * entry
    return alive + max(beside, (1 - filled) * working)


def _update(job: Job, ahead: Ahead, gradients: float) -> float:
    """Gradients, and new weights and moments beside the old ones, as far as the queue runs ahead.

    The sum of microbatches is the gradient, so it isn't there twice.
    """
    sizes = sorted((leaf.nbytes for _, leaf in tree_flatten(job.model.parameters())), reverse=True)
    share = min(1.0, ahead.leaves / max(1, len(sizes)))
    new = (_nbytes(job.model) + _nbytes(job.state)) * share
    return new + (0.0 if job.accumulate > 1 else gradients)


def _nbytes(tree: Any) -> float:
    """Bytes of the arrays of a module or a tree, each once."""
    tree = tree.parameters() if hasattr(tree, "parameters") else tree
    leaves = {id(leaf): leaf.nbytes for _, leaf in tree_flatten(tree) if isinstance(leaf, mx.array)}
    return float(sum(leaves.values()))
