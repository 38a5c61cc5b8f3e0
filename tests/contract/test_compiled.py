"""Compiled = eager, forward and backward: one row of every kind, and one decode step.

Every row is traced in every run of the tests. Most values are compared by `make soak`: a row takes
up to sixty kernels, a third of a second of g++ each.
"""

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten

from mlx_transformers.core.context import Context

from .rows import ROWS
from .suite import BATCH, LENGTH, Row, difference

pytestmark = pytest.mark.compiled

COMPILED = [row for row in ROWS if row.compiled]
EVERY_TIME = {
    *("mixer-short_convolution", "mixer-mingru", "align-additive", "cell-lstm", "ffn-glu_silu"),
    *("ffn-expert_choice", "norm-layer_norm", "norm-dyt", "position-rope", "model-llama"),
}
"""Rows whose values are compared in every run, one or two of a slot, of few kernels."""


def values(row: Row) -> Any:
    marks = [] if str(row) in EVERY_TIME else [pytest.mark.soak]
    return pytest.param(row, marks=marks, id=str(row))


def differentiated(subject: Any, traces: list[int]) -> Callable[[mx.array, mx.array], Any]:
    """A function of input and key: the gradients of a row, its loss and its outputs."""

    def outputs(x: mx.array, key: mx.array) -> Any:
        traces.append(1)
        params = subject.trainable_parameters()

        def loss(params: Any) -> Any:
            subject.update(params)
            ctx = Context(key=key)
            y = subject(x, ctx)
            return y.square().sum() + sum(ctx.collected.aux.values()), y

        if not tree_flatten(params):
            return loss(params)
        out = mx.value_and_grad(loss)(params)
        subject.update(params)
        return out

    return outputs


@pytest.mark.parametrize("row", COMPILED, ids=str)
def test_a_row_is_traced_once_with_the_shapes_of_eager_mode(row: Row) -> None:
    subject, traces = row.subject(), []
    x, key = subject.inputs(), mx.random.key(3)
    outputs = differentiated(subject, traces)
    eager = dict(tree_flatten(outputs(x, key)))
    compiled = mx.compile(outputs, inputs=[subject.state], outputs=[subject.state])
    for _ in range(2):
        lazy = dict(tree_flatten(compiled(x, key)))  # not evaluated, so no kernel is compiled
    assert len(traces) == 2
    assert {n: (v.shape, v.dtype) for n, v in lazy.items()} == {
        n: (v.shape, v.dtype) for n, v in eager.items()
    }


@pytest.mark.parametrize("row", map(values, COMPILED))
def test_compiled_is_eager_forward_and_backward(row: Row) -> None:
    subject = row.subject()
    x, key = subject.inputs(), mx.random.key(3)
    outputs = differentiated(subject, [])
    eager = dict(tree_flatten(outputs(x, key)))
    mx.eval(eager)
    compiled = mx.compile(outputs, inputs=[subject.state], outputs=[subject.state])
    fused = dict(tree_flatten(compiled(x, key)))
    assert fused.keys() == eager.keys()
    for name, value in eager.items():
        assert difference(fused[name], value) <= 1e-5 * max(1.0, float(mx.abs(value).max())), name


@pytest.mark.parametrize("row", [r for r in COMPILED if r.slot == "model"], ids=str)
def test_a_compiled_step_is_an_eager_one_and_is_traced_once(row: Row) -> None:
    subject = row.subject()
    x = subject.inputs()
    traces = []

    def one(token: mx.array, state: Any) -> Any:
        traces.append(1)
        return subject.step(token, state)

    step = mx.compile(one, inputs=[subject.state])
    state = subject.init_state(BATCH, LENGTH)
    whole = subject(x, Context())
    for t in range(LENGTH):
        y, state = step(x[:, t : t + 1], state)
        assert difference(y[:, 0], whole[:, t]) < 2e-5
    assert len(traces) == 1
