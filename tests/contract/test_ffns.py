"""Feed-forward networks against NumPy, the mixture against every expert on every token."""

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mlx_transformers.core.context import Context
from mlx_transformers.core.errors import RecipeError

from . import ffns, reference
from .reference_experts import expert_choice, product_keys, soft_moe
from .suite import EXPERTS, Row, weights_of

SPARSE = [row for row in ffns.ROWS if row.kind == "moe"]


@pytest.mark.parametrize("row", ffns.ROWS, ids=str)
def test_an_ffn_is_the_formula(row: Row) -> None:
    subject = row.subject()
    x = subject.inputs()
    w = reference.below(weights_of(subject), "it")
    formula = {
        "expert_choice": expert_choice,
        "soft_moe": soft_moe,
        "product_keys": product_keys,
    }.get(row.kind, reference.ffn)
    expected = formula(np.asarray(x, dtype=np.float64), w, row.config)
    np.testing.assert_allclose(subject(x, Context()), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("top_k", "normalize"),
    [(1, False), (2, True), (2, False), (3, True), (3, False), (EXPERTS, True), (EXPERTS, False)],
)
@pytest.mark.parametrize("expert", [ffns.GLU, ffns.MLP | {"bias": True}], ids=["glu", "mlp"])
def test_a_sparse_mixture_is_the_dense_sum_over_experts(
    expert: dict, top_k: int, normalize: bool
) -> None:
    router = {"kind": "top_k", "top_k": top_k, "normalize": normalize}
    row = ffns.ffn("sparse", ffns.MOE | {"router": router, "expert": expert})
    subject = row.subject()
    x = subject.inputs(batch=3)
    w = reference.below(weights_of(subject), "it")
    expected = reference.moe(np.asarray(x, dtype=np.float64), w, row.config)
    np.testing.assert_allclose(subject(x, Context()), expected, rtol=1e-5, atol=1e-5)


def test_an_expert_takes_the_first_tokens_of_each_row_up_to_its_capacity() -> None:
    router = {"kind": "top_k", "top_k": 2, "normalize": False}
    unbound = ffns.ffn("all", ffns.MOE | {"router": router}).subject()
    bound = ffns.ffn("few", ffns.MOE | {"router": router, "capacity": 2}).subject()
    x = unbound.inputs(batch=2)
    _, choice = unbound.it.router(x.reshape(-1, x.shape[-1]), Context())
    choices, taken = np.asarray(choice).reshape(*x.shape[:2], 2), np.zeros((2, EXPERTS), int)
    whole = []
    for b, t in np.ndindex(x.shape[:2]):
        full = [taken[b, e] >= 2 for e in choices[b, t]]
        for e in choices[b, t]:
            taken[b, e] += 1
        if not any(full):
            whole.append((b, t))
        if all(full):
            assert np.abs(bound(x, Context())[b, t]).max() == 0
    assert 0 < len(whole) < x.shape[0] * x.shape[1]
    for b, t in whole:
        np.testing.assert_allclose(
            bound(x, Context())[b, t], unbound(x, Context())[b, t], atol=1e-6
        )


def test_the_gradient_of_a_mixture_is_that_of_the_dense_sum() -> None:
    subject = SPARSE[0].subject()
    x, w = subject.inputs(), reference.below(weights_of(subject), "it")
    rng = np.random.default_rng(0)
    direction = rng.standard_normal(x.shape)
    step = {name: 1e-5 * rng.standard_normal(v.shape) for name, v in w.items()}

    def dense(sign: float) -> float:
        moved = {name: v + sign * step[name] for name, v in w.items()}
        y = reference.moe(np.asarray(x, dtype=np.float64), moved, SPARSE[0].config)
        return float((y * direction).sum())

    def sparse(params: dict) -> mx.array:
        subject.it.update(params)
        return (subject(x, Context()) * mx.array(direction.astype(np.float32))).sum()

    grads = mx.grad(sparse)(subject.it.parameters())
    along = sum(
        float((np.asarray(g, dtype=np.float64) * step[name]).sum())
        for name, g in tree_flatten(grads)
    )
    assert along == pytest.approx((dense(1.0) - dense(-1.0)) / 2, rel=1e-4)


def test_identical_experts_make_a_mixture_one_of_them() -> None:
    subject = SPARSE[0].subject()
    for layer in ("gate", "up", "down"):
        weight = subject.it.experts[layer].weight
        subject.it.experts[layer].weight = mx.repeat(weight[:1], EXPERTS, axis=0)
    x, w = subject.inputs(), reference.below(weights_of(subject), "it.experts")
    one = {name: v[0] for name, v in w.items()}
    expected = reference.dense(np.asarray(x, dtype=np.float64), one, ffns.GLU)
    np.testing.assert_allclose(subject(x, Context()), expected, rtol=1e-5, atol=1e-5)


def test_an_expert_that_no_token_chose_gets_a_zero_gradient_and_no_nan() -> None:
    subject = SPARSE[0].subject()
    gate = np.zeros((EXPERTS, 16), dtype=np.float32)
    gate[:2, 0] = 50.0
    subject.it.router.gate.weight = mx.array(gate)
    x = mx.abs(subject.inputs())

    def loss(params: dict) -> mx.array:
        subject.update(params)
        return subject(x, Context()).square().sum()

    grads = mx.grad(loss)(subject.parameters())["it"]["experts"]["up"]["weight"]
    assert float(mx.abs(grads[2:]).max()) == 0.0
    assert bool(mx.isfinite(grads).all())
    assert all(float(mx.abs(grads[e]).max()) > 0 for e in (0, 1))


def test_a_mixture_of_mixtures_is_an_error_that_names_what_can_be_stacked() -> None:
    with pytest.raises(RecipeError, match="Use 'mlp', 'glu' or 'clamped_glu'"):
        ffns.ffn("nested", ffns.MOE | {"expert": ffns.MOE}).parse().build(16)
