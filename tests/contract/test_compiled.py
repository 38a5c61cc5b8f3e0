"""Compiled = eager, forward and backward: one row of every kind, and one decode step."""

from typing import Any

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten

from mlx_transformers.core.context import Context

from .rows import ROWS
from .suite import BATCH, LENGTH, Row, difference

pytestmark = pytest.mark.compiled

COMPILED = [row for row in ROWS if row.compiled]


@pytest.mark.parametrize("row", COMPILED, ids=str)
def test_compiled_is_eager_forward_and_backward(row: Row) -> None:
    subject = row.subject()
    x, key = subject.inputs(), mx.random.key(3)
    traces = []

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

    eager = dict(tree_flatten(outputs(x, key)))
    mx.eval(eager)
    compiled = mx.compile(outputs, inputs=[subject.state], outputs=[subject.state])
    for _ in range(2):
        fused = dict(tree_flatten(compiled(x, key)))
    assert len(traces) == 2
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
