"""Cells against their formulas in NumPy, and what recurrence does at borders and on padding."""

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.core.context import Context, Layout
from mlx_transformers.core.errors import RecipeError

from . import cells, reference_recurrent
from .recurrent import LM
from .reference import below
from .suite import BATCH, DIM, LENGTH, Row, difference, parse, randomize, weights_of

every_cell = pytest.mark.parametrize("row", cells.ROWS, ids=str)


def begun(subject: object, seed: int = 4) -> dict[str, mx.array]:
    """A state that isn't empty."""
    rng = np.random.default_rng(seed)
    empty = subject.init_state(BATCH, LENGTH)
    return {k: mx.array(rng.standard_normal(v.shape).astype(np.float32)) for k, v in empty.items()}


@pytest.mark.parametrize("packed", [False, True], ids=["whole_rows", "packed_rows"])
@every_cell
def test_a_cell_is_the_formula(row: Row, packed: bool) -> None:
    subject = row.subject()
    x, state = subject.inputs(), begun(subject)
    w = below(weights_of(subject), "it")
    segments = mx.array([[0] * 3 + [1] * 6, [2] * 7 + [3] * 2]) if packed else None
    y, after = subject.it(x, state, Context(Layout(segments=segments)))
    for b in range(BATCH):
        first = {k: np.asarray(v[b], dtype=np.float64) for k, v in state.items()}
        starts = {(3, 7)[b]} if packed else set()
        outs, last = reference_recurrent.run(np.asarray(x[b]), first, w, row.config, starts)
        np.testing.assert_allclose(y[b], outs, atol=1e-5)
        for name, value in last.items():
            np.testing.assert_allclose(after[name][b], value, atol=1e-5)


@every_cell
def test_padding_is_passed_over_on_either_side(row: Row) -> None:
    subject = row.subject()
    x, state = subject.inputs(length=5), begun(subject)
    noise = subject.inputs(length=3, seed=8)
    y, after = subject.it(x, state, Context())
    for left, right in ((0, 3), (3, 0), (1, 2)):
        padded = mx.concatenate([noise[:, :left], x, noise[:, :right]], axis=1)
        valid = mx.array([[False] * left + [True] * 5 + [False] * right] * BATCH)
        z, end = subject.it(padded, state, Context(Layout(valid=valid)))
        assert difference(z[:, left : left + 5], y) < 1e-6
        assert all(difference(end[k], after[k]) < 1e-6 for k in after)


def test_the_forms_of_a_gru_agree_where_the_reset_gate_is_open() -> None:
    before = Row("cell", "before", cells.GRU).subject()
    after = Row("cell", "after", cells.GRU | {"reset": "after"}).subject(seed=1)
    bias = mx.concatenate([mx.full((DIM,), 60.0), mx.zeros((2 * DIM,))])
    for subject in (before, after):
        subject.it.x.weight, subject.it.h.weight = before.it.x.weight, before.it.h.weight
        subject.it.x.bias = bias
    after.it.h.bias = mx.zeros((3 * DIM,))
    x = before.inputs()
    assert difference(before(x, Context()), after(x, Context())) < 1e-6


def test_the_other_direction_is_the_row_turned_round() -> None:
    both = {"cell": cells.LSTM, "n_layers": 1, "bidirectional": True}
    subject = randomize(parse("recurrence", both).build(DIM, DIM), 0)
    layer = subject.blocks[0]
    x = Row("cell", "x", cells.LSTM).subject().inputs()
    segments = mx.array([[0] * 4 + [1] * 5, [0] * LENGTH])
    y, after = subject(x, subject.init_state(BATCH, mx.float32), Context(Layout(segments=segments)))
    empty = layer.init_state(BATCH, mx.float32)
    turned, first = layer.backward(x[:, ::-1], empty, Context(Layout(segments=segments[:, ::-1])))
    assert difference(y[..., DIM // 2 :], turned[:, ::-1]) < 1e-6
    assert difference(after[0]["c"][:, DIM // 2 :], first["c"]) < 1e-6


def test_dropped_connections_are_the_same_at_every_step() -> None:
    row = Row("cell", "dropped", cells.RNN | {"weight_drop": 0.5})
    subject = row.subject()
    x, key = subject.inputs(), mx.random.key(3)
    dropped = Context(key=key).dropout(subject.it.h.weight, 0.5)
    y = subject(x, Context(key=key))
    subject.it.h.weight = dropped
    assert difference(y, subject(x, Context())) < 1e-6


@pytest.mark.parametrize("rate", [0.25, 0.5])
def test_a_locked_dropout_drops_the_same_features_at_every_position(rate: float) -> None:
    config = {"cell": cells.RNN, "n_layers": 2, "dropout": rate, "locked": True}
    between = parse("recurrence", config).build(DIM, DIM).between
    y = np.asarray(between(mx.ones((300, 7, DIM)), Context(key=mx.random.key(0))))
    assert (y == y[:, :1]).all()
    dropped = (y[:, 0] == 0).mean()
    assert abs(dropped - rate) < 5 * np.sqrt(rate * (1 - rate) / y[:, 0].size)
    np.testing.assert_allclose(y[y != 0], 1 / (1 - rate), rtol=1e-6)


def test_recomputed_layers_give_the_gradients_of_the_others() -> None:
    config = {"cell": cells.LSTM | {"weight_drop": 0.3}, "n_layers": 3, "dropout": 0.3}
    subject = randomize(parse("recurrence", config).build(DIM, DIM), 0)
    x = Row("cell", "x", cells.LSTM).subject().inputs()

    def slopes() -> dict:
        def loss(params: dict) -> mx.array:
            subject.update(params)
            state = subject.init_state(BATCH, mx.float32)
            return subject(x, state, Context(key=mx.random.key(1)))[0].square().sum()

        params = subject.trainable_parameters()
        grads = mx.grad(loss)(params)
        subject.update(params)
        return grads

    plain = slopes()
    subject.recomputed = frozenset({0, 2})
    again = slopes()
    for i in range(3):
        for name in ("x", "h"):
            a, b = (g["blocks"][i]["forward"][name]["weight"] for g in (plain, again))
            assert difference(a, b) < 1e-6


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"hidden_dim": 8}, "with one it is none"),
        ({"dropout": 0.1}, "with one layer it has no effect"),
    ],
)
def test_settings_without_effect_are_errors(fields: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse("recurrence", {"cell": cells.RNN, "n_layers": 1} | fields)


def test_an_odd_width_cannot_be_shared_by_two_directions() -> None:
    config = {"cell": cells.RNN, "n_layers": 1, "bidirectional": True}
    with pytest.raises(RecipeError, match="half of its 7 units"):
        parse("recurrence", config).build(4, 7)


def test_a_language_model_that_reads_the_future_is_an_error() -> None:
    with pytest.raises(ValueError, match="read what it is to predict"):
        parse("model", LM | {"stack": LM["stack"] | {"bidirectional": True}})
