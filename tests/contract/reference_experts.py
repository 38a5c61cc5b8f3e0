"""Mixtures with slots, and a product-key memory, in NumPy."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from . import reference

Array, Weights = reference.Array, reference.Weights


def expert(x: Array, w: Weights, e: int, kind: Mapping[str, Any]) -> Array:
    """Expert e on x."""
    own = {name: value[e] for name, value in reference.below(w, "experts").items()}
    return reference.dense(x, own, kind["expert"])


def expert_choice(x: Array, w: Weights, kind: Mapping[str, Any]) -> Array:
    """Zhou et al. 2022, equations 1 to 3, for rows `[B, T, D]`."""
    y, n = np.zeros_like(x), kind["n_experts"]
    for b, row in enumerate(x):
        scores = reference.softmax(reference.linear(row, w, "gate"))
        share = kind.get("factor", 2.0) * len(row) / n
        share = math.ceil(share) if kind.get("rounding") == "up" else int(share)
        capacity = min(max(share, 1), len(row))
        for e in range(n):
            for t in sorted(range(len(row)), key=lambda t: -scores[t, e])[:capacity]:
                y[b, t] += scores[t, e] * expert(row[t], w, e, kind)
    return y


def soft_moe(x: Array, w: Weights, kind: Mapping[str, Any]) -> Array:
    """Puigcerver et al. 2023, equations 1 to 3, for rows `[B, T, D]`."""
    y = np.zeros_like(x)
    for b, row in enumerate(x):
        if kind.get("norm"):
            tokens = reference.norm(row, reference.below(w, "norm"), kind["norm"])
            slots = reference.norm(w["slots"], reference.below(w, "slot_norm"), kind["norm"])
        else:
            tokens, slots = unit(row), unit(w["slots"]) * w["scale"]
        logits = np.einsum("td,esd->tes", tokens, slots)
        flat = logits.reshape(len(row), -1)
        dispatch, combine = reference.softmax(flat.T).T, reference.softmax(flat)
        inputs = dispatch.T @ (tokens if kind.get("reads_normed") else row)
        outs = [
            expert(each, w, e, kind)
            for e, each in enumerate(inputs.reshape(*w["slots"].shape[:2], -1))
        ]
        y[b] = combine @ np.concatenate(outs)
    return y


def unit(x: Array) -> Array:
    """x divided by the length of its last axis."""
    return np.asarray(x / np.sqrt((x * x).sum(axis=-1, keepdims=True)))


def product_keys(x: Array, w: Weights, kind: Mapping[str, Any]) -> Array:
    """Lample et al. 2019, section 3.1, for rows `[B, T, D]`: the scores of all N² keys."""
    y = np.zeros_like(x)
    for place in np.ndindex(x.shape[:2]):
        queries = (w["q.weight"] @ x[place]).reshape(2, kind["n_heads"], kind["key_dim"])
        queries = reference.norm(queries, reference.below(w, "norm"), {"kind": "layer_norm"})
        first, second = np.einsum("phk,phnk->phn", queries, w["half_keys"])
        for a, b in zip(first, second, strict=True):
            scores = (a[:, None] + b).reshape(-1)
            best = np.argsort(-scores)[: kind["top_k"]]
            y[place] += reference.softmax(scores[best]) @ w["memory.weight"][best]
    return y
