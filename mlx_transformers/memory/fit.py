"""What of a job to change so that it fits: the cheapest in time of what is allowed to change."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from .account import Ahead, account
from .job import Job

RECOMPUTE_COST = 1 / 3
"""A second forward for every forward and backward, if all blocks are recomputed."""
CHUNK_COST = 0.01
"""Assumed for each halving of the loss's chunk below `LARGEST_CHUNK`: smaller matrix products."""
BATCH_COST = 0.03
"""Assumed for each halving of the microbatch."""
LARGEST_CHUNK, SMALLEST_CHUNK = 512, 32

ALL = frozenset({"recompute", "chunk", "batch"})


@dataclass(frozen=True)
class Choice:
    """A job that fits, its peak in bytes, and its time relative to the fastest way."""

    job: Job
    peak: float
    cost: float

    def sets(self, of: Job) -> list[str]:
        """The keys of the recipe that differ from `of`, as "path=value"."""
        found = []
        if self.job.batch_size != of.batch_size:
            found.append(f"train.microbatch={self.job.batch_size}")
        if self.job.chunk != of.chunk:
            found.append(f"objective.chunk={self.job.chunk}")
        if self.job.recomputed != of.recomputed:
            every = len(self.job.recomputed) == len(self.job.config.layers())
            found.append(
                f"train.recompute={'all' if every else sorted(self.job.recomputed) or 'none'}"
            )
        return found


def choose(
    job: Job,
    budget: float,
    free: frozenset[str] = ALL,
    factor: float = 1.0,
    ahead: Ahead | None = None,
) -> Choice | None:
    """The cheapest way to do a job within `budget` bytes, or None.

    Args:
        job: as it was asked for; what isn't free stays.
        budget: bytes that the peak may take.
        free: what may change: "recompute" (which blocks), "chunk", "batch" (rows of a microbatch;
            the rows of a step stay).
        factor: what a predicted peak is multiplied by (`record.correction`).
        ahead: as in `account`.
    """
    best: Choice | None = None
    for rows, chunk, cost in _sizes(job, free):
        sized = replace(
            job, batch_size=rows, accumulate=job.accumulate * job.batch_size // rows, chunk=chunk
        )
        for recomputed in _blocks(sized, free):
            whole = cost + RECOMPUTE_COST * len(recomputed) / len(job.config.layers())
            if best is not None and whole >= best.cost:
                break  # more blocks only cost more
            chosen = replace(sized, recomputed=recomputed)
            peak = factor * account(chosen, ahead).peak
            if peak <= budget:
                best = Choice(chosen, peak, whole)
                break
    return best


def least(job: Job, free: frozenset[str] = ALL, factor: float = 1.0) -> float:
    """The smallest peak that any choice reaches, in bytes."""
    rows, chunk = 1 if "batch" in free else job.batch_size, job.chunk
    if "chunk" in free:
        chunk = SMALLEST_CHUNK
    rest = job.accumulate * job.batch_size // rows
    small = replace(job, batch_size=rows, accumulate=rest, chunk=chunk)
    return factor * min(
        account(replace(small, recomputed=way)).peak for way in _blocks(small, free)
    )


def _blocks(job: Job, free: frozenset[str]) -> Iterator[frozenset[int]]:
    """None of the blocks, then ever more of the first: their activations wait longest, the last
    one's are needed at once."""
    if "recompute" not in free:
        yield job.recomputed
        return
    for count in range(len(job.config.layers()) + 1):
        yield frozenset(range(count))


def _sizes(job: Job, free: frozenset[str]) -> Iterator[tuple[int, int, float]]:
    """Rows of a microbatch, chunk, and the cost of both relative to the fastest."""
    rows = [n for n in range(job.batch_size, 0, -1) if job.batch_size % n == 0]
    chunks = [LARGEST_CHUNK]
    while chunks[-1] > SMALLEST_CHUNK:
        chunks.append(chunks[-1] // 2)
    for n in rows if "batch" in free else rows[:1]:
        for chunk in chunks if "chunk" in free else [job.chunk]:
            halvings = math.log2(LARGEST_CHUNK / chunk) if "chunk" in free else 0.0
            yield n, chunk, BATCH_COST * math.log2(job.batch_size / n) + CHUNK_COST * halvings
