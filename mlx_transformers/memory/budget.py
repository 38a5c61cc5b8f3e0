"""The memory budget of a run: a share of the recommended working set, or of free memory."""

from pathlib import Path

import mlx.core as mx

from ..core.device import memory_bytes, working_set_bytes

SHARE = 0.85
"""Share of the recommended working set, or of free memory; the rest is a reserve."""
CACHE_SHARE = 1.5
"""Largest cache limit, relative to the planned peak."""
LEAST_CACHE = 64 * 2**20
"""Smallest cache limit in bytes."""
WIRED = 1.25
"""Wired limit, relative to the planned peak."""
METAL_SHARE = 0.75
"""Share of a Mac's memory that Metal recommends as working set; an estimate."""


def budget_bytes() -> float:
    """The memory budget of a run on this machine, in bytes."""
    return SHARE * (free_bytes() if mx.default_device() == mx.cpu else working_set_bytes())


def cache_bytes(peak: float, budget: float) -> float:
    """The cache limit: room for all buffers that a step frees, as far as the budget allows.

    MLX reuses a buffer only for an array of nearly its size, so the buffers of a step may add up
    to more than its peak (measured: 1.2 times).
    """
    return max(LEAST_CACHE, min(CACHE_SHARE * peak, budget - peak))


def wired_bytes(peak: float, limit: float) -> float:
    """The wired limit: the peak and a reserve, resident for the GPU."""
    return min(limit, WIRED * peak)


def free_bytes() -> int:
    """Free memory in bytes: as Linux and its container report it; elsewhere all memory."""
    limits = [memory_bytes(), _available(), _left_in_container()]
    return min(n for n in limits if n is not None)


def _available() -> int | None:
    """Memory that Linux reports as available, in bytes; None elsewhere."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def _left_in_container() -> int | None:
    """Bytes that the limit of the cgroup leaves; None without a limit."""
    folder = Path("/sys/fs/cgroup")
    try:
        limit = (folder / "memory.max").read_text(encoding="ascii").strip()
        used = int((folder / "memory.current").read_text(encoding="ascii"))
        return None if limit == "max" else max(0, int(limit) - used)
    except (OSError, ValueError):
        return None
