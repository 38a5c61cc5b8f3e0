"""The tensor `rope_freqs.weight`: LLaMA 3.1's scaling of rotary positions as factors of the pairs.

Layout: llama.cpp, `conversion/llama.py` (`generate_extra_tensors`).
"""

import math
from collections.abc import Mapping
from typing import Any

import mlx.core as mx
import numpy as np

from ..core.errors import ConvertError
from .gguf_positions import Table, rope_of

NAME = "rope_freqs.weight"
LOW, HIGH = 1.0, 4.0
"""The turns that all published models have: fewer are interpolated, more are left as they are."""
TRAINED = tuple(2**n for n in range(4, 22))
"""Contexts of training that are tried."""


def factors(config: Table) -> mx.array | None:
    """Return by how much each pair of features turns slower, [width of a head / 2]; None where the
    config has no such scaling."""
    rope = rope_of(config)
    if (rope.get("rope_type") or rope.get("type")) != "llama3":
        return None
    width = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    theta = rope.get("rope_theta") or config["rope_theta"]
    trained = rope.get("original_max_position_embeddings") or config["max_position_embeddings"]
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    return mx.array(_factors(theta, width, rope["factor"], trained, low, high))


def scaling(table: Table, found: mx.array, where: str) -> Table:
    """Return the scaling of a config.json whose factors a file has.

    Args:
        table: the config without it.
        found: the factors, [width of a head / 2].
        where: the file, for messages.

    Raises:
        ConvertError: no scaling of LLaMA 3.1's kind has them.
    """
    given = np.array(found, dtype=np.float64)
    width, factor = 2 * len(given), float(f"{given.max():.6g}")
    for trained in TRAINED:
        one = _factors(table["rope_theta"], width, factor, trained, LOW, HIGH)
        if np.allclose(one, given, rtol=1e-4):
            return {
                "rope_type": "llama3",
                "factor": factor,
                "original_max_position_embeddings": trained,
                "low_freq_factor": LOW,
                "high_freq_factor": HIGH,
            }
    raise ConvertError(
        f"{where}: {NAME} scales rotary positions by {given.min():g} to {given.max():g}, which is "
        "not LLaMA 3.1's way; that alone is built for GGUF files."
    )


def take(table: Table, tensors: dict[str, mx.array], where: str) -> Table:
    """Take the tensor of factors out of a file's, and return the keys of config.json for it.

    Raises:
        ConvertError: as `scaling`.
    """
    found = tensors.pop(NAME, None)
    return {} if found is None else {"rope_scaling": scaling(table, found, where)}


def extra(config: Table) -> Mapping[str, Any]:
    """Return the tensor of factors of a config by its name, if it has them."""
    found = factors(config)
    return {} if found is None else {NAME: found}


def _factors(
    theta: float, width: int, factor: float, trained: int, low: float, high: float
) -> np.ndarray:
    turns = trained * theta ** -(np.arange(0, width, 2) / width) / (2 * math.pi)
    unchanged = np.clip((turns - low) / (high - low), 0, 1)
    return (1 / ((1 - unchanged) / factor + unchanged)).astype(np.float32)
