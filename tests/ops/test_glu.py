"""Activations and gates: closed formulas in NumPy, recomputing forms against plain ones."""

import math
from collections.abc import Callable

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.ops.activations import ACTIVATIONS, AGAIN, PLAIN, recomputing
from mlx_transformers.ops.glu import glu, glu_naive, glu_recomputing

from .compare import (
    COMPILED_OR_NOT,
    assert_close,
    assert_derivative,
    assert_same_gradients,
    draw,
    numpy64,
)

ERF = np.vectorize(math.erf)
FORMULAS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "relu": lambda x: np.where(x > 0, x, 0),
    "relu2": lambda x: np.where(x > 0, x * x, 0),
    "gelu": lambda x: x * (1 + ERF(x / np.sqrt(2))) / 2,
    "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "gelu_quick": lambda x: x / (1 + np.exp(-1.702 * x)),
    "elu": lambda x: np.where(x > 0, x, np.exp(np.minimum(x, 0)) - 1),
    "selu": lambda x: (
        1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * (np.exp(np.minimum(x, 0)) - 1))
    ),
    "mish": lambda x: x * np.tanh(np.logaddexp(0, x)),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "identity": lambda x: x,
}
SMOOTH = sorted(set(FORMULAS) - {"relu", "relu2", "elu", "selu"})


def test_every_activation_has_a_formula_here() -> None:
    assert set(ACTIVATIONS) == set(PLAIN) == set(FORMULAS)


@pytest.mark.parametrize("name", FORMULAS)
def test_activations_and_gates_are_their_formulas(name: str) -> None:
    x, up = 3 * draw(1, 5, 40), draw(2, 5, 40)
    want = FORMULAS[name](numpy64(x))
    assert_close(ACTIVATIONS[name](x), want)
    assert_close(PLAIN[name](x), want)
    assert_close(glu(x, up, name), want * numpy64(up))


@COMPILED_OR_NOT
@pytest.mark.parametrize("name", AGAIN)
def test_recomputing_forms_equal_the_plain_ones(name: str, compiled: bool) -> None:
    x, up = 3 * draw(1, 5, 40), draw(2, 5, 40)
    assert_same_gradients(recomputing(name), PLAIN[name], [x], compiled=compiled)
    assert_same_gradients(
        lambda gate, up: glu_recomputing(gate, up, name),
        lambda gate, up: glu_naive(gate, up, name),
        [x, up],
        compiled=compiled,
    )


@pytest.mark.parametrize("name", SMOOTH)
def test_float64_gradients_are_the_derivative(name: str) -> None:
    assert_derivative(ACTIVATIONS[name], [draw(1, 30)])
    assert_derivative(lambda gate, up: glu(gate, up, name), [draw(1, 30), draw(2, 30)])


@pytest.mark.parametrize("name", sorted(set(FORMULAS) - {"relu2"}))
def test_far_from_zero_all_is_finite(name: str) -> None:
    x = mx.array([-1e4, -200.0, -100.0, 100.0, 200.0, 1e4])
    for grad in (
        mx.grad(lambda x: ACTIVATIONS[name](x).sum())(x),
        mx.grad(lambda x: glu(x, mx.ones_like(x), name).sum())(x),
    ):
        assert mx.isfinite(grad).all().item()
    assert_close(ACTIVATIONS[name](x[3:]), FORMULAS[name](numpy64(x[3:])))


@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16])
@pytest.mark.parametrize("name", FORMULAS)
def test_half_precision_is_kept_forward_and_backward(name: str, dtype: mx.Dtype) -> None:
    x, up = draw(1, 40).astype(dtype), draw(2, 40).astype(dtype)
    out = glu(x, up, name)
    grads = mx.grad(lambda x, up: glu(x, up, name).sum(), argnums=(0, 1))(x, up)
    assert {out.dtype, ACTIVATIONS[name](x).dtype, *(g.dtype for g in grads)} == {dtype}


@pytest.mark.compiled
def test_gates_may_be_recomputed_in_a_checkpoint() -> None:
    def run(gate: mx.array, up: mx.array) -> mx.array:
        return glu(gate, up, "silu")

    args = [draw(1, 5, 40), draw(2, 5, 40)]
    assert_same_gradients(mx.checkpoint(run), run, args, compiled=True)


def test_an_unknown_activation_is_named_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="Did you mean 'silu'"):
        glu(mx.ones(3), mx.ones(3), "sillu")
