"""Relative positions in NumPy, one pair of places at a time, from the papers alone."""

from collections.abc import Mapping
from typing import Any

import numpy as np

Array = np.ndarray
Weights = Mapping[str, Array]


def shaw(q: Array, k: Array, h: int, apart: int, kind: Mapping[str, Any], w: Weights) -> float:
    """Shaw et al. 2018, equation 5: `q · a[clip(s - t)] / √K`, for `apart = t - s`."""
    span = kind.get("span", 16)
    table = w["table.weight"].reshape(-1, 2 * span + 1, len(q))
    row = min(max(-apart, -span), span) + span
    return q @ table[h % len(table), row] / len(q) ** 0.5


def transformer_xl(
    q: Array, k: Array, h: int, apart: int, kind: Mapping[str, Any], w: Weights
) -> float:
    """Dai et al. 2019, section 3.3: the terms b, c and d, over √K; term a is the mixer's own."""
    K, (width, D) = len(q), w["r.weight"].shape
    head = slice(h % (width // K) * K, h % (width // K) * K + K)
    angle = apart * kind.get("theta", 10000.0) ** (-np.arange(0, D, 2) / D)
    r = w["r.weight"][head] @ np.concatenate([np.sin(angle), np.cos(angle)])
    return (q @ r + w["u"][head] @ k + w["v"][head] @ r) / K**0.5


BIASES = {"shaw": shaw, "transformer_xl": transformer_xl}


def xpos(x: Array, positions: Array, kind: Mapping[str, Any], sign: int) -> Array:
    """Sun et al. 2022, algorithm 1, for queries (sign 1) or keys (-1) `[T, K]`: pair i, as a
    complex number, times `z_i^(± p/base) e^(i θ_i p)`."""
    n = x.shape[1] // 2
    neighbours = kind.get("traditional", False)
    first = slice(0, 2 * n, 2) if neighbours else slice(0, n)
    second = slice(1, 2 * n, 2) if neighbours else slice(n, 2 * n)
    y = x.copy()
    for i, (a, b) in enumerate(
        zip(range(*first.indices(2 * n)), range(*second.indices(2 * n)), strict=True)
    ):
        gamma = kind.get("gamma", 0.4)
        fade = ((i / n + gamma) / (1 + gamma)) ** (sign * positions / kind.get("base", 512.0))
        angle = positions * kind.get("theta", 10000.0) ** (-i / n)
        turned = (x[:, a] + 1j * x[:, b]) * fade * np.exp(1j * angle)
        y[:, a], y[:, b] = turned.real, turned.imag
    return y
