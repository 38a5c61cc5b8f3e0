"""Dilated convolutions against the formula in NumPy, and how far a stack of them sees."""

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.core.context import Context, Layout

from . import mixers
from .models import GPT2
from .reference import below
from .suite import BATCH, DIM, LENGTH, Row, parse, randomize, weights_of

ROWS = [row for row in mixers.ROWS if row.kind == "dilated_convolution"]
SEGMENTS = np.array([[0] * 3 + [1] * 4 + [0] * 2, [5] * 9])


def formula(x: np.ndarray, w: dict, kind: dict, back: int, same: np.ndarray) -> np.ndarray:
    """van den Oord et al. 2016, equation 2; Kalchbrenner et al. 2016, 3.4: one row `[T, D]`."""
    out = np.zeros_like(x)
    for t in range(len(x)):
        z = np.array(w.get("z.bias", np.zeros(len(w["z.weight"]))))
        for i in range(kind["kernel"]):
            s = t - (kind["kernel"] - 1 - i) * kind["dilation"] + back
            if 0 <= s < len(x) and same[s] == same[t]:
                z = z + w["z.weight"][:, i * DIM : (i + 1) * DIM] @ x[s]
        if kind.get("unit", "gated") == "gated":
            half = len(z) // 2
            z = np.tanh(z[:half]) / (1 + np.exp(-z[half:]))
        out[t] = w["o.weight"] @ np.maximum(z, 0 if kind.get("unit") == "relu" else -np.inf)
    return out


@pytest.mark.parametrize("packed", [False, True], ids=["whole_rows", "packed_rows"])
@pytest.mark.parametrize("causal", [True, False], ids=["causal", "both_ways"])
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_convolution_is_the_formula(row: Row, causal: bool, packed: bool) -> None:
    subject = row.subject()
    x, w = subject.inputs(), below(weights_of(subject), "it")
    back = 0 if causal else (row.config["kernel"] - 1) // 2 * row.config["dilation"]
    segments = SEGMENTS if packed else np.zeros((BATCH, LENGTH), int)
    y = subject(x, Context(Layout(causal=causal, segments=mx.array(segments))))
    for b in range(BATCH):
        expected = formula(np.asarray(x[b], np.float64), w, row.config, back, segments[b])
        np.testing.assert_allclose(y[b], expected, atol=1e-5)


def test_three_layers_of_doubled_dilation_see_eight_positions() -> None:
    block = GPT2["block"]
    wide = {
        f"d{d}": block | {"mixer": {"kind": "dilated_convolution", "kernel": 2, "dilation": d}}
        for d in (1, 2, 4)
    }
    layers = {"n_layers": 3, "blocks": wide, "pattern": list(wide)}
    model = randomize(parse("model", GPT2 | layers | {"position": {"kind": "none"}}).build(13), 0)
    tokens = mx.array(np.random.default_rng(0).integers(0, 13, (1, 16)))
    before = model(tokens)[0, -1]
    for s in range(16):
        changed = mx.where(mx.arange(16) == s, (tokens + 1) % 13, tokens)
        moved = float(mx.abs(model(changed)[0, -1] - before).max()) > 1e-6
        assert moved == (s > 7), s


def test_decoding_keeps_no_more_than_the_taps_reach() -> None:
    subject = mixers.dilated("far", kernel=3, dilation=4).subject()
    assert subject.it.init_state(BATCH, 1000, mx.float32)["past"].shape == (BATCH, 8, DIM)
