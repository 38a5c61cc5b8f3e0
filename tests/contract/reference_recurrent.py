"""Recurrent cells once more, in plain NumPy and float64: one row, one step, one unit at a time."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from .reference import Array, Weights

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
