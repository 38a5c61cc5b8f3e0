"""Chooses microbatch, chunk and checkpointed layers so that a job fits, at least cost in time."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from .account import account
from .job import Job

RECOMPUTE_COST = 1 / 3
"""Added time if all layers are checkpointed: a second forward."""
CHUNK_COST = 0.01
"""Assumed added time for each halving of the loss's chunk: smaller matrix products."""
BATCH_COST = 0.03
"""Assumed added time for each halving of the microbatch."""
LARGEST_CHUNK, SMALLEST_CHUNK = 512, 32

ALL = frozenset({"recompute", "chunk", "batch"})


@dataclass(frozen=True)
class Choice:
    """A job that fits, its peak in bytes, and its added time relative to the fastest job."""

    job: Job
    peak: float
    cost: float

    def sets(self, of: Job) -> list[str]:
        """The keys of the recipe that differ from `of`, as "path=value"."""
        overrides = []
        if self.job.batch_size != of.batch_size:
            overrides.append(f"train.microbatch={self.job.batch_size}")
        if self.job.chunk != of.chunk:
            overrides.append(f"objective.chunk={self.job.chunk}")
        if self.job.recomputed != of.recomputed:
            every = len(self.job.recomputed) == len(self.job.config.layers())
            overrides.append(
                f"train.recompute={'all' if every else sorted(self.job.recomputed) or 'none'}"
            )
        return overrides


def choose(
    job: Job,
    budget: float,
    free: frozenset[str] = ALL,
    factor: float = 1.0,
) -> Choice | None:
    """Find the fastest job that fits into `budget` bytes; None: no job does.

    Args:
        job: the job as requested.
        budget: the largest peak, in bytes.
        free: settings that may change: "recompute" (checkpointed layers), "chunk", "batch" (rows
            of a microbatch; the rows of a step stay).
        factor: correction of predicted peaks (`record.correction`).
    """
    best: Choice | None = None
    for rows, chunk, cost in _sizes(job, free):
        sized = replace(
            job, batch_size=rows, accumulate=job.accumulate * job.batch_size // rows, chunk=chunk
        )
        for recomputed in _blocks(sized, free):
            total = cost + RECOMPUTE_COST * len(recomputed) / max(1, len(job.config.layers()))
            if best is not None and total >= best.cost:
                break  # more blocks only cost more
            chosen = replace(sized, recomputed=recomputed)
            peak = factor * account(chosen).peak
            if peak <= budget:
                best = Choice(chosen, peak, total)
                break
    return best


def least(job: Job, free: frozenset[str] = ALL, factor: float = 1.0) -> float:
    """The smallest peak of any choice, in bytes."""
    rows, chunk = 1 if "batch" in free else job.batch_size, job.chunk
    if "chunk" in free:
        chunk = SMALLEST_CHUNK
    accumulate = job.accumulate * job.batch_size // rows
    small = replace(job, batch_size=rows, accumulate=accumulate, chunk=chunk)
    return factor * min(
        account(replace(small, recomputed=blocks)).peak for blocks in _blocks(small, free)
    )


def _blocks(job: Job, free: frozenset[str]) -> Iterator[frozenset[int]]:
    """Checkpoint no layer, then ever more of the first: their activations are saved longest."""
    if "recompute" not in free:
        yield job.recomputed
        return
    for count in range(len(job.config.layers()) + 1):
        yield frozenset(range(count))


def _divisors(n: int) -> list[int]:
    """All divisors of n, the largest first."""
    small = [k for k in range(1, math.isqrt(n) + 1) if n % k == 0]
    return sorted({*small, *(n // k for k in small)}, reverse=True)


def _sizes(job: Job, free: frozenset[str]) -> Iterator[tuple[int, int, float]]:
    """Rows of a microbatch, chunk, and the added time of both relative to the fastest."""
    rows = _divisors(job.batch_size)
    chunks = [LARGEST_CHUNK]
    while chunks[-1] > SMALLEST_CHUNK:
        chunks.append(chunks[-1] // 2)
    for n in rows if "batch" in free else rows[:1]:
        for chunk in chunks if "chunk" in free else [job.chunk]:
            halvings = math.log2(LARGEST_CHUNK / chunk) if "chunk" in free else 0.0
            yield n, chunk, BATCH_COST * math.log2(job.batch_size / n) + CHUNK_COST * halvings
