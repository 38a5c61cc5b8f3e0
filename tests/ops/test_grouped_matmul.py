"""Expert routing: the sparse form against every expert on every token, and against a loop."""

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.ops.grouped_matmul import Dispatch, DispatchNaive

from .compare import assert_close, assert_derivative, assert_same_gradients, draw, numpy64

D, F = 5, 7
BLOCKS = [None, 1, 3, 8]


def choices(kind: str, n: int, k: int, n_experts: int) -> mx.array:
    rng = np.random.default_rng(4)
    if kind == "one":  # all of them to one expert: as uneven as can be
        return mx.full((n, k), n_experts - 1, dtype=mx.int32)
    if kind == "twice":  # an expert may be chosen twice by one token
        return mx.array(rng.integers(0, n_experts, (n, 1)).repeat(k, axis=1))
    picked = np.stack([rng.permutation(n_experts)[:k] for _ in range(n)])
    return mx.array(np.where(picked == 1, 0, picked) if kind == "empty" else picked)


def leaves(n: int, k: int, n_experts: int) -> list[mx.array]:
    shapes = [(n, D), (n, k), (n_experts, F, D), (n_experts, F), (n_experts, D, F)]
    return [draw(i, *shape) for i, shape in enumerate(shapes)]


def ffn(d: Any, x: mx.array, gates: mx.array, *weights: mx.array) -> mx.array:
    up, bias, down = weights
    return d.combine(d.linear(mx.sin(d.linear(d.gather(x), up, bias)), down), gates)


def by_numpy(choice: mx.array, *args: mx.array) -> np.ndarray:
    x, gates, up, bias, down = (numpy64(a) for a in args)
    out = np.zeros_like(x)
    for i, j in np.ndindex(*choice.shape):
        e = choice[i, j].item()
        out[i] += gates[i, j] * (down[e] @ np.sin(up[e] @ x[i] + bias[e]))
    return out


SIZES = [(1, 1, 1), (1, 2, 8), (13, 2, 4), (40, 3, 5), (17, 1, 30)]


@pytest.mark.parametrize("kind", ["any", "one", "twice", "empty"])
@pytest.mark.parametrize(("n", "k", "n_experts"), SIZES)
@pytest.mark.parametrize("block", BLOCKS)
def test_each_token_meets_its_experts_and_none_is_dropped(
    block: int | None, n: int, k: int, n_experts: int, kind: str
) -> None:
    choice, args = choices(kind, n, k, n_experts), leaves(n, k, n_experts)
    want = by_numpy(choice, *args)
    assert_close(ffn(Dispatch(choice, n_experts, block), *args), want)
    assert_close(ffn(DispatchNaive(choice, n_experts), *args), want)


@pytest.mark.parametrize("kind", ["any", "one", "twice", "empty"])
@pytest.mark.parametrize("block", BLOCKS)
def test_gradients_equal_the_dense_ones(block: int | None, kind: str) -> None:
    choice = choices(kind, 40, 3, 5)
    assert_same_gradients(
        lambda *args: ffn(Dispatch(choice, 5, block), *args),
        lambda *args: ffn(DispatchNaive(choice, 5), *args),
        leaves(40, 3, 5),
    )


@pytest.mark.parametrize("kind", ["any", "one", "empty"])
@pytest.mark.parametrize("block", BLOCKS)
def test_gates_may_weigh_what_experts_read(block: int | None, kind: str) -> None:
    def weighed(d: Any, x: mx.array, gates: mx.array, *weights: mx.array) -> mx.array:
        up, bias, down = weights
        hidden = mx.sin(d.linear(d.gather(x) * d.spread(gates), up, bias))
        return d.combine(d.linear(hidden, down), mx.ones_like(gates))

    choice, args = choices(kind, 17, 2 if kind != "one" else 1, 5), leaves(17, 2, 5)
    args[1] = args[1][:, : choice.shape[1]]
    x, gates, up, bias, down = (numpy64(a) for a in args)
    want = np.zeros_like(x)
    for i, j in np.ndindex(*choice.shape):
        e = choice[i, j].item()
        want[i] += down[e] @ np.sin(up[e] @ (gates[i, j] * x[i]) + bias[e])
    if kind != "empty":  # there an expert may come twice, and the dense form adds its gates
        assert_close(weighed(DispatchNaive(choice, 5), *args), want)
        assert_same_gradients(
            lambda *args: weighed(Dispatch(choice, 5, block), *args),
            lambda *args: weighed(DispatchNaive(choice, 5), *args),
            args,
        )
    assert_close(weighed(Dispatch(choice, 5, block), *args), want)


@pytest.mark.parametrize("kind", ["any", "one", "twice", "empty"])
def test_every_block_belongs_to_an_expert_that_exists(kind: str) -> None:
    choice = choices(kind, 13, 2, 4)
    d = Dispatch(choice, 4, block=8)
    assert 0 <= d.expert.min().item() <= d.expert.max().item() < 4
    assert (d.expert[d.slot // 8] == choice.reshape(-1)).all().item()


def test_float64_gradients_are_the_derivative() -> None:
    choice = choices("any", 13, 2, 4)
    assert_derivative(lambda *args: ffn(Dispatch(choice, 4), *args), leaves(13, 2, 4))


@pytest.mark.compiled
def test_another_routing_needs_no_other_graph() -> None:
    traces, args = [], leaves(40, 3, 5)

    def run(choice: mx.array, *args: mx.array) -> mx.array:
        traces.append(1)
        return ffn(Dispatch(choice, 5), *args)

    compiled = mx.compile(run)
    for kind in ("any", "one", "empty"):
        choice = choices(kind, 40, 3, 5).astype(mx.int32)
        assert_close(compiled(choice, *args), by_numpy(choice, *args))
    assert len(traces) == 1


@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16])
def test_half_precision_is_kept(dtype: mx.Dtype) -> None:
    choice, args = choices("any", 40, 3, 5), [a.astype(dtype) for a in leaves(40, 3, 5)]
    got = ffn(Dispatch(choice, 5), *args)
    assert got.dtype == dtype
    assert_close(got, by_numpy(choice, *args), bound=3e-2)


@pytest.mark.compiled
def test_compiled_and_recomputed_equal_eager() -> None:
    choice = choices("any", 40, 3, 5)

    def run(*args: mx.array) -> mx.array:
        return ffn(Dispatch(choice, 5), *args)

    assert_same_gradients(run, run, leaves(40, 3, 5), compiled=True)
    assert_same_gradients(mx.checkpoint(run), run, leaves(40, 3, 5), compiled=True)
