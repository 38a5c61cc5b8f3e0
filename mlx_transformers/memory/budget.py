"""How much memory a run may take: a share of what the device recommends, or of what is free."""

from pathlib import Path

import mlx.core as mx

from ..core.device import memory_bytes, working_set_bytes

SHARE = 0.85
"""Of the recommended working set, or of the free memory: the rest is for what isn't planned."""
KEPT = 1.5
LEAST_CACHE = 64 * 2**20
WIRED = 1.25
METAL_SHARE = 0.75
"""Of a Mac's memory Metal recommends about this much; estimated for Macs that aren't at hand."""


def budget_bytes() -> float:
    """What a run on this machine may take."""
    return SHARE * (free_bytes() if mx.default_device() == mx.cpu else working_set_bytes())


def cache_bytes(peak: float, budget: float) -> float:
    """Freed memory that is worth keeping: all that a step lets go of, as far as there is room.

    Arrays of near sizes share buffers badly, so that a step's may add up to more than its peak
    (measured: 1.2 times); what is kept beyond that is never taken again.
    """
    return max(LEAST_CACHE, min(KEPT * peak, budget - peak))


def wired_bytes(peak: float, limit: float) -> float:
    """Memory that the GPU should not have to wait for: the peak and what may come beside it."""
    return min(limit, WIRED * peak)


def free_bytes() -> int:
    """Memory that could be had now: Linux says so, a container perhaps less; else all of it."""
    found = [memory_bytes(), _available(), _left_in_container()]
    return min(n for n in found if n is not None)


def _available() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def _left_in_container() -> int | None:
    folder = Path("/sys/fs/cgroup")
    try:
        limit = (folder / "memory.max").read_text(encoding="ascii").strip()
        used = int((folder / "memory.current").read_text(encoding="ascii"))
        return None if limit == "max" else max(0, int(limit) - used)
    except (OSError, ValueError):
        return None
