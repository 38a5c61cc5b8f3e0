"""Disentangled attention and convolution against their formulas, in NumPy."""

import math

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.core.context import Context, Layout
from mlx_transformers.core.errors import RecipeError
from mlx_transformers.layers.positions.disentangled import log_rows

from . import mixers, reference
from .suite import BATCH, DIM, LENGTH, Row, weights_of

APART = [row for row in mixers.ROWS if row.kind == "disentangled" and row.config.get("reads") != []]
PLAIN = [row for row in APART if not {"qk_norm", "window"} & set(row.config)]
CONVOLUTIONS = [row for row in mixers.ROWS if row.kind == "convolution"]


def row_of(distance: int, span: int, far: int) -> int:
    """He et al. 2021: rows of their own up to half the span, then one for each power."""
    half, size = span // 2, abs(distance)
    if size > half:
        share = math.log(size / half) / math.log((far - 1) / half)
        size = half + math.ceil(round(share * (half - 1), 9))
    return min(max(int(math.copysign(size, distance)) + span, 0), 2 * span - 1)


@pytest.mark.parametrize("row", PLAIN, ids=str)
@pytest.mark.parametrize("causal", [True, False], ids=["causal", "both_ways"])
def test_contents_and_places_meet_as_in_the_paper(row: Row, causal: bool) -> None:
    subject, kind = row.subject(), row.config
    x, w = np.asarray(subject.inputs(), np.float64), weights_of(subject)
    it, table = reference.below(w, "it"), w["position.table.weight"]
    reads, H = kind.get("reads", ["c2p", "p2c"]), kind["n_heads"]
    K, out = DIM // H, np.zeros((BATCH, LENGTH, DIM))
    q, k, v = (reference.linear(x, it, name) for name in "qkv")
    for b, h, t in np.ndindex(BATCH, H, LENGTH):
        mine = slice(h * K, (h + 1) * K)
        seen = range(t + 1 if causal else LENGTH)
        scores = []
        for s in seen:
            place = table[row_of(t - s, row.position["span"], row.position["max_distance"])]
            score = q[b, t, mine] @ k[b, s, mine]
            if "c2p" in reads:
                score += q[b, t, mine] @ reference.linear(place, it, "pos_k")[mine]
            if "p2c" in reads:
                score += k[b, s, mine] @ reference.linear(place, it, "pos_q")[mine]
            scores.append(score / math.sqrt(K * (1 + len(reads))))
        out[b, t, mine] = reference.softmax(np.array(scores)) @ v[b, list(seen), mine]
    y = subject(subject.inputs(), Context(Layout(causal=causal)))
    np.testing.assert_allclose(y, reference.linear(out, it, "o"), rtol=1e-5, atol=1e-5)


def test_far_distances_share_rows_and_the_last_begins_at_the_maximum() -> None:
    rows = log_rows(8, 20)
    assert rows[:5].tolist() == [0, 1, 2, 3, 4]
    assert (np.diff(rows) >= 0).all()
    assert (rows[19], rows[20]) == (7, 8)
    assert rows.tolist() == [row_of(d, 8, 20) - 8 for d in range(20)] + [8]


def test_a_position_that_lends_no_table_is_refused() -> None:
    row = Row("mixer", "without", mixers.APART)
    with pytest.raises(RecipeError, match=r"Set position.kind = 'disentangled'"):
        row.subject()(mx.zeros((1, 4, DIM)), Context())


@pytest.mark.parametrize("row", CONVOLUTIONS, ids=str)
@pytest.mark.parametrize("causal", [True, False], ids=["causal", "both_ways"])
def test_a_convolution_is_a_sum_over_neighbours(row: Row, causal: bool) -> None:
    subject = row.subject()
    w = reference.below(weights_of(subject), "it")
    expected = reference.convolution(np.asarray(subject.inputs()), w, row.config, causal)
    given = subject(subject.inputs(), Context(Layout(causal=causal)))
    np.testing.assert_allclose(given, expected, rtol=1e-5, atol=1e-5)
