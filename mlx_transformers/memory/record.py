"""What plans were worth: predicted and measured peaks, kept per MLX version and device.

A later plan is multiplied by the median of measured / predicted of the runs on the same device, so
it learns what the constants of `account` don't know: another version, Metal, another allocator.
"""

import json
import math
import os
import statistics
from importlib.metadata import version
from pathlib import Path

import mlx.core as mx

from ..core.cache import cache_folder
from ..core.parse import read_table

REMEMBERED = 50
"""Newest runs of a device that count."""
ENOUGH = 3
"""Runs before a correction is believed."""
SMALLEST = 64 * 2**20
"""Bytes below which a peak says more of small things left out than of large ones predicted."""
FURTHEST = 2.0
"""A correction is never more than this factor, up or down."""


ACCOUNT = 3
"""Raised whenever `account` changes: what was measured against another says nothing of this one."""


def device_key() -> str:
    """What a measurement holds for: "mlx 0.32.4, Device(cpu, 0), x86_64, account 2"."""
    name = mx.device_info().get("device_name", "unknown device")
    return f"mlx {version('mlx')}, {mx.default_device()}, {name}, account {ACCOUNT}"


def record_file() -> Path:
    """Where the measurements of all devices are."""
    return cache_folder() / "plans.json"


def ratios(key: str) -> list[float]:
    """Measured / predicted of the runs on a device, oldest first; a damaged file counts as none."""
    try:
        found = read_table(record_file()).get(key, [])
        return [float(ratio) for ratio in found if 0 < float(ratio) < math.inf]
    except (OSError, ValueError, AttributeError, TypeError):
        return []


def remember(key: str, predicted: float, measured: float) -> None:
    """Add a run; `predicted` is the plan before any correction. Tiny runs teach nothing, and a
    cache that can't be written is no reason to fail."""
    if measured < SMALLEST:
        return
    try:
        everything = read_table(record_file())
    except (OSError, ValueError):
        everything = {}
    everything[key] = [*ratios(key), round(measured / predicted, 4)][-REMEMBERED:]
    whole = record_file().with_suffix(f".{os.getpid()}.tmp")
    try:
        whole.parent.mkdir(parents=True, exist_ok=True)
        whole.write_text(json.dumps(everything, indent=1), encoding="utf-8")
        os.replace(whole, record_file())
    except OSError:
        return


def correction(key: str) -> float:
    """What a plan for this device is multiplied by; 1 until there are enough runs."""
    found = ratios(key)
    if len(found) < ENOUGH:
        return 1.0
    return min(FURTHEST, max(1 / FURTHEST, statistics.median(found)))
