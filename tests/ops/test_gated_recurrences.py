"""RWKV-7's delta rule, xLSTM's matrix memory and the RG-LRU: chunked or scanned, and by token."""

from collections.abc import Callable
from functools import partial
from typing import Any

import mlx.core as mx
import pytest

from mlx_transformers.ops.generalized_delta_rule import (
    generalized_delta_rule,
    generalized_delta_rule_naive,
)
from mlx_transformers.ops.linear_attention import linear_attention, linear_attention_naive
from mlx_transformers.ops.mlstm import MatrixMemory, mlstm, mlstm_naive
from mlx_transformers.ops.rg_lru import rg_lru, rg_lru_naive

from .compare import assert_close, assert_same_gradients, draw

B, H, K, V = 2, 2, 3, 4
Form = Callable[..., tuple[mx.array, ...]]


def delta(form: Form, **options: Any) -> Form:
    """The delta rule of r, g, k, v, a, b and a state, with a and b as in RWKV-7."""

    def run(r: mx.array, g: mx.array, k: mx.array, v: mx.array, *more: mx.array) -> Any:
        a, b, state = more
        a = a / mx.linalg.norm(a, axis=-1, keepdims=True)
        return form(r, -mx.exp(g), k, v, -a, a * mx.sigmoid(b), state=state, **options)

    return run


def memory(form: Form, **options: Any) -> Form:
    """mLSTM of q, k, v, gates and a state."""

    def run(*arrays: mx.array) -> tuple[mx.array, ...]:
        *five, c, m = arrays
        out, last = form(*five, state=MatrixMemory(c, m), **options)
        return out, last.memory, last.m

    return run


def griffin(form: Form, **options: Any) -> Form:
    options.pop("chunk", None)
    first = options.pop("starts", None)
    if first is None:
        first = mx.zeros((1, 1), mx.bool_)
    return partial(form, first=first, **options)


def delta_arguments(length: int) -> list[mx.array]:
    widths = (K, K, K, V, K, K)
    arrays = [draw(i, B, H, length, width) for i, width in enumerate(widths)]
    return [*arrays, draw(9, B, H, K, V)]


def memory_arguments(length: int) -> list[mx.array]:
    arrays = [draw(i, B, H, length, width) for i, width in enumerate((K, K, V))]
    gates = [3 * draw(4, B, H, length), 3 * draw(5, B, H, length)]
    return [*arrays, *gates, draw(6, B, H, K, V + 1), draw(7, B, H)]


def griffin_arguments(length: int) -> list[mx.array]:
    return [*(draw(i, B, length, K) for i in range(3)), draw(3, K), draw(4, B, K)]


FORMS = {
    "delta": (delta, generalized_delta_rule, generalized_delta_rule_naive, delta_arguments),
    "memory": (memory, mlstm, mlstm_naive, memory_arguments),
    "griffin": (griffin, rg_lru, rg_lru_naive, griffin_arguments),
}
EACH = pytest.mark.parametrize("name", FORMS)


def joined(run: Form) -> Callable[..., mx.array]:
    """All outputs as one array."""
    return lambda *args: mx.concatenate([x.flatten() for x in run(*args)])


@pytest.mark.parametrize("length", [1, 6, 19])
@EACH
def test_outputs_state_and_gradients_are_those_of_the_loop(name: str, length: int) -> None:
    make, fast, naive, arguments = FORMS[name]
    args = arguments(length)
    assert_same_gradients(joined(make(fast, chunk=8)), joined(make(naive)), args, bound=1e-4)


@pytest.mark.parametrize("fast", [True, False], ids=["chunks", "loop"])
@EACH
def test_a_document_reads_itself_alone_and_padding_changes_nothing(name: str, fast: bool) -> None:
    make, in_chunks, naive, arguments = FORMS[name]
    form, more = (in_chunks, {"chunk": 4}) if fast else (naive, {})
    args = arguments(14)
    axis = 1 if name == "griffin" else 2
    sequences = [x for x in args if x.ndim > axis and x.shape[axis] == 14]
    if name == "griffin":
        sequences = args[:3]
    index = mx.broadcast_to(mx.arange(14), (B, 14))
    packed = make(form, starts=index == 6, **more)(*args)

    def tail(x: mx.array) -> mx.array:
        return mx.split(x, [6], axis=axis)[1]

    rest = [x if any(x is s for s in sequences) else None for x in args]
    alone = [tail(x) if r is not None else x for x, r in zip(args, rest, strict=True)]
    begins = mx.broadcast_to(mx.arange(8) == 0, (B, 8))
    later = make(form, starts=begins, **more)(*alone)
    assert_close(tail(packed[0]), later[0], 3e-5)
    assert_close(packed[-1], later[-1], 3e-5)
    padded = make(form, valid=index >= 6, **more)(*args)
    unpadded = make(form, **more)(*alone)
    assert_close(tail(padded[0]), unpadded[0], 3e-5)
    assert_close(padded[-1], unpadded[-1], 3e-5)


@EACH
def test_a_sequence_continues_from_its_state(name: str) -> None:
    make, fast, _, arguments = FORMS[name]
    args = arguments(11)
    count, axis = {"delta": (6, 2), "memory": (5, 2), "griffin": (3, 1)}[name]
    run = make(fast, chunk=4)
    halves = [mx.split(x, [5], axis=axis) for x in args[:count]]
    rest = args[count:]
    whole = run(*args)
    constants = rest[:-1] if name == "griffin" else []
    first = run(*(half[0] for half in halves), *rest)
    then = run(*(half[1] for half in halves), *constants, *first[1:])
    assert_close(mx.concatenate([first[0], then[0]], axis=axis), whole[0], 3e-5)
    for got, want in zip(then[1:], whole[1:], strict=True):
        assert_close(got, want, 3e-5)


def test_matrix_memory_stays_finite_with_gates_of_any_size() -> None:
    args = memory_arguments(9)
    args[3], args[4] = 300 * args[3], 300 * args[4]
    grads = mx.grad(lambda *a: memory(mlstm)(*a)[0].sum(), argnums=tuple(range(5)))(*args)
    assert all(bool(mx.isfinite(g).all()) for g in grads)
    assert_close(memory(mlstm)(*args)[0], memory(mlstm_naive)(*args)[0], 1e-4)


def test_a_state_read_before_its_token_has_finite_gradients_at_any_decay() -> None:
    q, k, v = (draw(i, B, H, 9, K) for i in range(3))
    decay = -200 * mx.sigmoid(draw(3, B, H, 9, K))

    def run(form: Form, *args: mx.array) -> mx.array:
        return form(*args, scale=1.0, before=True)[0]

    fast, naive = (partial(run, form) for form in (linear_attention, linear_attention_naive))
    assert_same_gradients(fast, naive, (q, k, v, decay), bound=1e-4)
