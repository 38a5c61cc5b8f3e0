"""Gates, losses and loads of routers against their formulas."""

import math

import mlx.core as mx
import numpy as np
import pytest
from pydantic import ValidationError

from mlx_transformers.core.context import Context
from mlx_transformers.core.errors import RecipeError

from . import reference, routers
from .routers import router
from .suite import DIM, EXPERTS, Row, difference, weights_of


@pytest.mark.parametrize(
    ("top_k", "normalize"), [(1, False), (2, True), (2, False), (EXPERTS, True), (EXPERTS, False)]
)
def test_gates_are_the_largest_probabilities(top_k: int, normalize: bool) -> None:
    row = router("gates", top_k, normalize)
    subject = row.subject()
    x = subject.inputs()
    w = reference.below(weights_of(subject), "it")
    flat = np.asarray(x, dtype=np.float64).reshape(-1, DIM)
    _, expected = reference.gates(flat, w, row.config)
    y = np.asarray(subject(x, Context())).reshape(-1, EXPERTS)
    np.testing.assert_allclose(y, expected, atol=1e-6)
    assert ((y > 0).sum(axis=1) == top_k).all()


@pytest.mark.parametrize("row", routers.ROWS, ids=str)
def test_gates_are_those_of_the_best_experts(row: Row) -> None:
    subject = row.subject()
    x = subject.inputs(batch=5)
    w = reference.below(weights_of(subject), "it")
    flat = np.asarray(x, dtype=np.float64).reshape(-1, DIM)
    _, expected = reference.gates(flat, w, row.config)
    y = np.asarray(subject(x, Context())).reshape(-1, EXPERTS)
    np.testing.assert_allclose(y, expected, atol=1e-6)


def test_a_bias_moves_choices_to_idle_experts_and_leaves_gates_alone() -> None:
    subject = router("moved", 1, False, kind="sigmoid", speed=0.1).bare()
    x = mx.abs(subject.inputs(batch=8))
    weight = np.zeros((EXPERTS, DIM), dtype=np.float32)
    weight[0] = 0.1
    subject.it.gate.weight = mx.array(weight)
    gates = subject(x, Context())
    subject.it.label = "router"
    for _ in range(40):
        ctx = Context(key=mx.random.key(0))
        subject(x, ctx)
        load = ctx.collected.stats["router:load"]
        subject.it.after_step({"load": load}, mx.array(True))
    after = subject(x, Context())
    assert float((gates[..., 0] > 0).astype(mx.float32).mean()) == 1.0
    assert float((after[..., 0] > 0).astype(mx.float32).mean()) < 0.9
    assert difference(after.max(axis=-1), mx.where(after[..., 0] > 0, gates[..., 0], 0.5)) < 1e-6


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"n_groups": 3, "top_groups": 1}, "n_groups = 3 does not divide ffn.n_experts = 4"),
        ({"n_groups": 4, "top_groups": 1}, "top_k = 2 exceeds the 1 experts of 1 groups"),
    ],
)
def test_groups_that_do_not_hold_the_choices_are_an_error(fields: dict, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        router("groups", 2, True, **fields).parse().build(DIM, EXPERTS)


def test_half_of_a_grouping_is_an_error() -> None:
    with pytest.raises(ValidationError, match="n_groups and top_groups go together"):
        router("half", 2, True, n_groups=2).parse()


@pytest.mark.parametrize("top_k", [1, 2, EXPERTS], ids="top_{}".format)
def test_losses_and_loads_are_the_formulas(top_k: int) -> None:
    row = router("losses", top_k, top_k > 1, balance_loss=0.5, z_loss=0.25)
    subject = row.subject()
    x, ctx = subject.inputs(), Context()
    subject(x, ctx)
    flat = np.asarray(x, dtype=np.float64).reshape(-1, DIM)
    logits = flat @ weights_of(subject)["it.gate.weight"].T
    probs, share = reference.gates(flat, reference.below(weights_of(subject), "it"), row.config)
    load = (share > 0).sum(axis=0) / (share > 0).sum()
    balance = EXPERTS * sum(load[e] * probs[:, e].mean() for e in range(EXPERTS))
    z = np.mean([math.log(np.exp(row).sum()) ** 2 for row in logits])
    assert float(ctx.collected.aux["balance"]) == pytest.approx(0.5 * balance, rel=1e-5)
    assert float(ctx.collected.aux["router_z"]) == pytest.approx(0.25 * z, rel=1e-5)
    assert float(ctx.collected.stats["max_load"]) == pytest.approx(EXPERTS * load.max(), rel=1e-5)


def test_the_balance_loss_is_1_when_even_and_its_gradient_evens_the_load() -> None:
    subject = router("balance", 1, False, balance_loss=1.0).subject()
    eye = np.zeros((EXPERTS, DIM), dtype=np.float32)
    eye[np.arange(EXPERTS), np.arange(EXPERTS)] = 1.0
    subject.it.gate.weight = mx.array(eye)
    even = mx.array(np.tile(np.eye(EXPERTS, DIM, dtype=np.float32) * 9, (3, 1)))[None]
    crowd = mx.array(np.tile(np.eye(1, DIM, dtype=np.float32) * 9, (12, 1)))[None]

    def balance(x: mx.array) -> mx.array:
        ctx = Context()
        subject(x, ctx)
        return ctx.collected.aux["balance"]

    assert float(balance(even)) == pytest.approx(1.0, rel=1e-5)
    assert float(balance(crowd)) == pytest.approx(EXPERTS, rel=1e-2)
    warm = crowd / 9
    assert float(balance(warm - 0.1 * mx.grad(balance)(warm))) < float(balance(warm))


def test_no_coefficient_means_no_loss() -> None:
    subject, ctx = router("silent", 2, True).subject(), Context()
    subject(subject.inputs(), ctx)
    assert ctx.collected.aux == {}


def test_more_choices_than_experts_are_an_error() -> None:
    with pytest.raises(RecipeError, match=r"ffn.router.top_k = 5 exceeds ffn.n_experts = 4"):
        router("greedy", 5, True).parse().build(DIM, EXPERTS)


@pytest.mark.parametrize("kind", ["top_k", "sigmoid"])
def test_one_normalised_gate_is_1_and_gives_the_router_no_gradient(kind: str) -> None:
    subject = router("constant", 1, True, kind=kind).subject()
    x = subject.inputs()

    def total(weight: mx.array) -> mx.array:
        subject.it.gate.weight = weight
        return (subject.it(x, Context())[0] * mx.random.normal((*x.shape[:-1], 1))).sum()

    gates, _ = subject.it(x, Context())
    np.testing.assert_allclose(np.asarray(gates), 1.0, atol=1e-6)
    assert mx.abs(mx.grad(total)(subject.it.gate.weight)).max().item() < 1e-6
