"""Records predicted and measured peaks per MLX version and device, to correct later plans.

A plan is multiplied by the median of measured / predicted over recent runs of models of the same
kinds on the same device. This corrects what the constants of `account` don't cover: other versions
of MLX, Metal, other allocators, errors in the `saved_bytes` of a kind of layer.
"""

import math
import statistics
from pathlib import Path

import mlx.core as mx

from ..core.cache import cache_folder
from ..core.parse import read_table
from ..core.versions import version
from ..data.cache import keep_json
from ..layers.block import Block
from ..models.model import ModelKind

REMEMBERED = 50
"""Number of newest runs of a key that are used."""
ENOUGH = 3
"""Fewest runs for a correction."""
SMALLEST = 64 * 2**20
"""Bytes below which a peak is not recorded: small allocations that no plan counts dominate it."""
FURTHEST = 2.0
"""Largest correction factor, up or down."""


ACCOUNT = 7
"""Version of `account`: ratios to the predictions of another version are not used."""


def device_key() -> str:
    """The key of this device's records: "mlx 0.32.4, Device(cpu, 0), x86_64, account 7"."""
    return f"mlx {version('mlx')}, {mx.default_device()}, {device_name()}, account {ACCOUNT}"


def run_key(model: ModelKind) -> str:
    """The key of the records of models of the same kinds on this device: "..., account 7, decoder,
    attention". A kind that is planned wrongly thus changes the plans of no other."""
    layers = [layer for tower in model.towers() for layer in tower.layers]
    mixers = {layer.mixer.kind for layer in layers if isinstance(layer, Block)}
    return ", ".join([device_key(), model.kind, *sorted(mixers)])


def device_name() -> str:
    """The name of this device: "Apple M3 Max"."""
    return str(mx.device_info().get("device_name", "unknown device"))


def record_file() -> Path:
    """The file with the records of all devices."""
    return cache_folder() / "plans.json"


def ratios(key: str) -> list[float]:
    """Measured / predicted of the runs of a key, oldest first; none from a damaged file."""
    try:
        saved = read_table(record_file()).get(key, [])
        return [float(ratio) for ratio in saved if 0 < float(ratio) < math.inf]
    except (OSError, ValueError, AttributeError, TypeError):
        return []


def record_peak(key: str, predicted: float, measured: float) -> None:
    """Record a run; `predicted` is the plan before correction.

    Tiny runs are not recorded, and neither is anything if the cache can't be written.
    """
    if measured < SMALLEST:
        return
    try:
        everything = read_table(record_file())
    except (OSError, ValueError):
        everything = {}
    everything[key] = [*ratios(key), round(measured / predicted, 4)][-REMEMBERED:]
    keep_json(record_file(), everything)


def correction(key: str) -> float:
    """The correction factor of plans for a key; 1 until there are enough runs."""
    measured = ratios(key)
    if len(measured) < ENOUGH:
        return 1.0
    return min(FURTHEST, max(1 / FURTHEST, statistics.median(measured)))
