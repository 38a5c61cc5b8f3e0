"""Recurrent cells once more, in plain NumPy and float64: one row, one step, one unit at a time."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from .reference import Array, Weights, below

State = dict[str, Array]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def rnn(x: Array, old: State, w: Weights, kind: Mapping[str, Any]) -> State:
    """Elman 1990: the state is the nonlinearity of what comes in and what was there."""
    z = w["x.weight"] @ x + w["h.weight"] @ old["h"] + w["x.bias"]
    relu = kind.get("activation") == "relu"
    return {"h": np.array([max(v, 0.0) if relu else math.tanh(v) for v in z])}


def lstm(x: Array, old: State, w: Weights, kind: Mapping[str, Any]) -> State:
    """Hochreiter & Schmidhuber 1997 with Gers et al. 2000's forget gate."""
    dim = len(old["h"])
    net = w["x.weight"] @ x + w["h.weight"] @ old["h"] + w["x.bias"]
    h, c = np.zeros(dim), np.zeros(dim)
    for j in range(dim):
        write = sigmoid(net[j])
        keep = sigmoid(net[dim + j] + kind.get("forget_bias", 0.0))
        read = sigmoid(net[2 * dim + j])
        c[j] = keep * old["c"][j] + write * math.tanh(net[3 * dim + j])
        h[j] = read * math.tanh(c[j])
    return {"h": h, "c": c}


def gru(x: Array, old: State, w: Weights, kind: Mapping[str, Any]) -> State:
    """Cho et al. 2014, equations 5 to 8; `after` as in PyTorch's documentation of GRU."""
    h, dim = old["h"], len(old["h"])
    wr, wz, wn = np.split(w["x.weight"], 3)
    ur, uz, un = np.split(w["h.weight"], 3)
    br, bz, bn = np.split(w["x.bias"], 3)
    cr, cz, cn = np.split(w.get("h.bias", np.zeros(3 * dim)), 3)
    r = np.array([sigmoid(v) for v in wr @ x + ur @ h + br + cr])
    z = np.array([sigmoid(v) for v in wz @ x + uz @ h + bz + cz])
    inner = r * (un @ h + cn) if kind.get("reset") == "after" else un @ (r * h) + cn
    n = np.array([math.tanh(v) for v in wn @ x + bn + inner])
    return {"h": np.array([z[j] * h[j] + (1 - z[j]) * n[j] for j in range(dim)])}


CELLS = {"rnn": rnn, "lstm": lstm, "gru": gru}


def run(
    x: Array, state: State, w: Weights, kind: Mapping[str, Any], starts: set[int] = frozenset()
) -> tuple[Array, State]:
    """A row `x [T, I]` from `state`, which is emptied before the positions `starts`."""
    outs = []
    for t, vector in enumerate(x):
        if t in starts:
            state = {name: np.zeros_like(value) for name, value in state.items()}
        state = CELLS[kind["kind"]](vector, state, w, kind)
        outs.append(state["h"])
    return np.array(outs), state


def score(h: Array, m: Array, w: Weights, kind: Mapping[str, Any]) -> float:
    """Bahdanau et al. 2015, A.1.2; Luong et al. 2015, equation 8: one query, one position."""
    match kind["kind"]:
        case "additive":
            hidden = w["q.weight"] @ h + w["k.weight"] @ m
            return float(w["v.weight"][0] @ np.tanh(hidden))
        case "dot":
            return float(h @ m)
        case "general":
            return float(h @ w["k.weight"] @ m)
        case "concat":
            return float(w["v.weight"][0] @ np.tanh(w["both.weight"] @ np.concatenate([h, m])))
    raise ValueError(kind)


def align(
    h: Array, memory: Array, w: Weights, kind: Mapping[str, Any], length: int, t: int
) -> Array:
    """Weights over the first `length` positions of a memory `[S, D]`; Luong et al. 2015, 3.2."""
    weights = np.zeros(len(memory))
    if kind["kind"] != "local":
        scores = np.array([score(h, m, w, kind) for m in memory[:length]])
        weights[:length] = np.exp(scores) / np.exp(scores).sum()
        return weights
    if kind["center"] == "monotonic":
        center = float(min(t, length - 1))
    else:
        center = length * sigmoid(float(w["v.weight"][0] @ np.tanh(w["place.weight"] @ h)))
    near = [s for s in range(length) if abs(s - center) <= kind["window"]]
    inner = below(w, "of")
    scores = np.array([score(h, memory[s], inner, kind["score"]) for s in near])
    weights[near] = np.exp(scores) / np.exp(scores).sum()
    if kind["center"] == "predictive":
        sigma = kind["window"] / 2
        for s in near:
            weights[s] *= math.exp(-((s - center) ** 2) / (2 * sigma**2))
    return weights


def seq2seq(
    source: Array, tokens: Array, w: Weights, config: Mapping[str, Any]
) -> tuple[Array, Array]:
    """Logits and alignment of one pair, for one-layer GRUs: Bahdanau et al. 2015 where `attend` is
    before, Luong et al. 2015 where it is after; the encoder reads both ways."""
    table, dim, gru_kind = w["embed.table.weight"], config["dim"], {"kind": "gru"}
    there, back = (below(w, f"encoder.blocks.0.{way}") for way in ("forward", "backward"))
    empty = {"h": np.zeros(dim // 2)}
    left, first = run(table[source], empty, there, gru_kind)
    right, last = run(table[source][::-1], empty, back, gru_kind)
    memory = np.concatenate([left, right[::-1]], axis=1)
    s = np.concatenate([first["h"], last["h"]])
    s = np.tanh(w["bridge.0.h.weight"] @ s + w["bridge.0.h.bias"])
    cell, out = below(w, "decoder.stack.blocks.0.forward"), below(w, "decoder.out")
    lens, fed = below(w, "decoder.align"), np.zeros(dim)
    logits, seen = [], []
    for t, x in enumerate(table[tokens]):
        if config["attend"] == "before":
            a = align(s, memory, lens, config["align"], len(memory), t)
            s = gru(np.concatenate([x, a @ memory]), {"h": s}, cell, gru_kind)["h"]
            pairs = out["weight"] @ np.concatenate([s, x, a @ memory]) + out["bias"]
            y = np.array([max(pairs[2 * j], pairs[2 * j + 1]) for j in range(dim)])
        else:
            inputs = np.concatenate([x, fed]) if config["input_feeding"] else x
            s = gru(inputs, {"h": s}, cell, gru_kind)["h"]
            a = align(s, memory, lens, config["align"], len(memory), t)
            y = fed = np.tanh(out["weight"] @ np.concatenate([a @ memory, s]) + out["bias"])
        seen.append(a)
        logits.append(table @ y + w.get("head.bias", 0.0))
    return np.array(logits), np.array(seen)
