"""The tensor `rope_freqs.weight`: LLaMA 3.1's scaling of rotary positions as factors of the pairs.

Layout: llama.cpp, `conversion/llama.py` (`generate_extra_tensors`).
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np

from ..core.errors import ConvertError
from ..recipe.merge import Table
from .gguf_positions import rope_of

NAME = "rope_freqs.weight"
LOW, HIGH = 1.0, 4.0
"""The turns that all published models have: fewer are interpolated, more are left as they are."""
TRAINED = tuple(2**n for n in range(4, 22))
"""Contexts of training that are tried where no pair of features tells."""
USUAL_BASE = 10000.0
"""llama.cpp's base of rotary positions where a file names none."""


@dataclass(frozen=True)
class Scaling:
    """Numbers of a scaling, as in config.json."""

    factor: float
    trained: int
    high: float = HIGH

    def keys(self) -> Table:
        """Return it as config.json has it."""
        return {
            "rope_type": "llama3",
            "factor": self.factor,
            "original_max_position_embeddings": self.trained,
            "low_freq_factor": LOW,
            "high_freq_factor": self.high,
        }


def factors(config: Table) -> mx.array | None:
    """Return by how much each pair of features turns slower, [width of a head / 2]; None where the
    config has no such scaling.

    Raises:
        ConvertError: the scaling doesn't follow from its factors, so the file wouldn't be read.
    """
    rope = rope_of(config)
    if (rope.get("rope_type") or rope.get("type")) != "llama3":
        return None
    width = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    theta = rope.get("rope_theta") or config["rope_theta"]
    trained = rope.get("original_max_position_embeddings") or config["max_position_embeddings"]
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    found = mx.array(_factors(theta, width, rope["factor"], trained, low, high))
    if recovered(found, theta) is None:
        raise ConvertError(
            f"Rotary positions {rope} are not written as GGUF: the tensor {NAME} would hold "
            f"{len(found)} factors, from which the scaling doesn't follow. With low_freq_factor = "
            f"{LOW:g} and high_freq_factor = {HIGH:g} it mostly does; --to hf writes any."
        )
    return found


def scaling(table: Table, found: mx.array, where: str) -> Table:
    """Return the scaling of a config.json whose factors a file has.

    Args:
        table: the config without it.
        found: the factors, [width of a head / 2].
        where: the file, for messages.

    Raises:
        ConvertError: none of LLaMA 3.1's kind that is recovered has them.
    """
    one = recovered(found, table.get("rope_theta", USUAL_BASE))
    if one is None:
        given = np.array(found)
        raise ConvertError(
            f"{where}: {NAME} scales rotary positions by {given.min():g} to {given.max():g}, and "
            "no scaling of LLaMA 3.1's kind was found that does; that alone is built for GGUF "
            "files."
        )
    return one.keys()


def recovered(found: mx.array, theta: float) -> Scaling | None:
    """Return a scaling that has these factors up to 1e-4, or None where none was found."""
    given = np.array(found, dtype=np.float64)
    for one in _candidates(given, theta):
        has = _factors(theta, 2 * len(given), one.factor, one.trained, LOW, one.high)
        if np.allclose(has, given, rtol=1e-4):
            return one
    return None


def _candidates(given: np.ndarray, theta: float) -> Iterator[Scaling]:
    """Yield scalings that may have these factors: with the usual contexts, then with what follows
    from the interpolated pairs.

    Between the two limits `1 / factor of a pair` is a line in the turns of the pair within one
    token. So its slope and height tell two of factor, context and upper limit.
    """
    factor = float(f"{given.max():.6g}")
    yield from (Scaling(factor, trained) for trained in TRAINED)
    turns = theta ** -(np.arange(len(given)) / len(given)) / (2 * math.pi)
    reached = (given > 1 + 1e-6) & (given < factor * (1 - 1e-6))
    if factor > 1 and reached.any():
        unchanged = (1 / given[reached] - 1 / factor) / (1 - 1 / factor)
        contexts = (LOW + unchanged * (HIGH - LOW)) / turns[reached]
        yield Scaling(factor, max(1, round(float(contexts.mean()))))
        if reached.sum() > 1:
            slope, height = np.polyfit(turns[reached], unchanged, 1)
            if height < 0 < slope:
                span = -LOW / height
                high = float(f"{LOW + span:.4g}")
                yield Scaling(factor, max(1, round(float(slope * span))), high)
    between = given > 1 + 1e-6
    if between.sum() > 1:
        slope, height = np.polyfit(turns[between], 1 / given[between], 1)
        share = HIGH - LOW
        least = (height * share + LOW) / HIGH  # 1 / factor
        if 0 < least < 1 and slope > 0:
            trained = max(1, round(float(slope * share / (1 - least))))
            yield Scaling(float(f"{1 / least:.4g}"), trained)


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
