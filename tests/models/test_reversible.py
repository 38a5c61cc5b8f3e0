"""Reversible stacks: the gradients of ordinary ones, without their activations."""

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx.utils import tree_flatten
from pydantic import ValidationError

from mlx_transformers.core.context import Context
from mlx_transformers.models import reversible as stacks
from mlx_transformers.objectives.chunked_loss import with_aux
from mlx_transformers.ops.reversible import reversible, reversible_naive
from mlx_transformers.trainer.forward import Forward
from tests.contract.adapters import adapted
from tests.contract.ffns import MOE, ROUTER
from tests.contract.models import LLAMA, REFORMER
from tests.contract.suite import parse, randomize

WIDTH = 6


def sublayers(n: int) -> tuple[list[Any], list[Any]]:
    """n functions `tanh(x w) + b` that also leave the mean of their output."""

    def f(own: Any, x: mx.array) -> tuple[mx.array, list[mx.array]]:
        y = mx.tanh(x @ own["w"]) + own["b"]
        return y, [y.mean()]

    keys = mx.random.split(mx.random.key(0), n)
    own = [{"w": mx.random.normal((WIDTH, WIDTH), key=k), "b": mx.ones(WIDTH)} for k in keys]
    return [f] * n, own


@pytest.mark.parametrize("n", [1, 2, 5])
def test_a_chain_has_the_outputs_and_gradients_of_autodiff(n: int) -> None:
    functions, parameters = sublayers(n)
    x1, x2 = (mx.random.normal((2, 3, WIDTH), key=mx.random.key(i)) for i in (1, 2))

    def loss(run: Any) -> Any:
        def of(parameters: Any, x1: mx.array, x2: mx.array) -> mx.array:
            a, b, side_outputs = run(functions, parameters, x1, x2)
            return (a * b).sum() + a.sum() + sum(x.sum() for own in side_outputs for x in own)

        return dict(tree_flatten(mx.value_and_grad(of, argnums=(0, 1, 2))(parameters, x1, x2)))

    fast, naive = loss(reversible), loss(reversible_naive)
    assert fast.keys() == naive.keys()
    for name, value in naive.items():
        assert float(mx.abs(fast[name] - value).max()) < 1e-4, name


def gradients(model: nn.Module, tokens: mx.array) -> dict[str, mx.array]:
    def loss(params: Any) -> mx.array:
        model.update(params)
        ctx = Context(key=mx.random.key(4))
        y = model(tokens, ctx)
        one = mx.array(1.0)
        return with_aux(y.square().mean(), one, {}, ctx).total

    return dict(tree_flatten(mx.value_and_grad(loss)(model.trainable_parameters())))


OVER_LAYERS = REFORMER | {
    "block": REFORMER["block"]
    | {"ffn": MOE | {"router": ROUTER | {"balance_loss": 0.1, "balance_over": "layers"}}}
}


@pytest.mark.parametrize("config", [REFORMER, OVER_LAYERS])
def test_a_model_with_dropout_and_experts_has_the_gradients_of_autodiff(
    config: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = randomize(parse("model", config).build(13), 0)
    tokens = mx.arange(10).reshape(1, 10)
    fast = gradients(model, tokens)
    monkeypatch.setattr(stacks, "reversible", reversible_naive)
    naive = gradients(model, tokens)
    for name, value in naive.items():
        assert float(mx.abs(fast[name] - value).max()) < 1e-4, name


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16])
def test_adapters_have_the_masks_and_the_casts_of_their_pass(
    dtype: mx.Dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = parse("adapt", {"kind": "lora", "rank": 2, "alpha": 1.0, "dropout": 0.3})
    model = adapted(kind, LLAMA | {"reversible": "mean"})
    forward = Forward(model, parse("objective", {"kind": "clm"}).build(), dtype)
    tokens = mx.arange(10).reshape(1, 10)

    def gradients() -> dict[str, mx.array]:
        def loss(params: Any) -> mx.array:
            return forward(params, {"tokens": tokens}, Context(key=mx.random.key(3))).total

        return dict(tree_flatten(mx.grad(loss)(model.trainable_parameters())))

    fast = gradients()
    monkeypatch.setattr(stacks, "reversible", reversible_naive)
    for name, value in gradients().items():
        assert float(mx.abs(fast[name] - value).max()) < 1e-3 * float(mx.abs(value).max()), name


def saved(n_layers: int, **fields: Any) -> int:
    """Bytes that the backward of a decoder refers to when its forward has run."""
    model = parse("model", LLAMA | {"n_layers": n_layers} | fields).build(13)
    mx.eval(model.parameters())
    x = mx.random.normal((4, 32, 16), key=mx.random.key(0))
    mx.eval(x)

    def run(x: mx.array, *flat: mx.array) -> mx.array:
        names = [name for name, _ in tree_flatten(model.stack.trainable_parameters())]
        model.stack.load_weights(list(zip(names, flat, strict=True)), strict=False)
        ctx = Context()
        ctx.position = model.position
        return model.stack(x, ctx)

    leaves = [value for _, value in tree_flatten(model.stack.trainable_parameters())]
    before = mx.get_active_memory()
    outs, grads = mx.vjp(run, [x, *leaves], [mx.ones_like(x)])
    mx.eval(outs)
    found = mx.get_active_memory() - before
    mx.eval(grads)
    return found


def test_saved_activations_do_not_grow_with_depth() -> None:
    shallow, deep = (saved(n, reversible="mean") for n in (2, 8))
    # Six more layers would save 6 * 8 KiB of activations; MLX may free a few small arrays late.
    assert deep < 1.05 * shallow + 8192
    assert saved(8) > 3 * saved(2)
    streams = 2 * 4 * 32 * 16 * 4
    assert deep < 4 * streams


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"block": LLAMA["block"] | {"placement": "post"}}, "placement = 'post' normalises"),
        ({"block": LLAMA["block"] | {"arrangement": "parallel"}}, "arrangement = 'sequential'"),
        ({"block": {k: v for k, v in LLAMA["block"].items() if k != "ffn"}}, "set block.ffn"),
        ({"head": {"kind": "lm", "tied": True}}, "head.tied = false"),
        ({"ahead": {"kind": "mtp"}}, "unset ahead"),
    ],
)
def test_what_cannot_be_undone_is_refused_with_the_cure(fields: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        parse("model", LLAMA | {"reversible": "concatenate"} | fields)


def test_an_ffn_in_chunks_has_the_gradients_of_the_whole() -> None:
    block = LLAMA["block"]
    tokens = mx.arange(11).reshape(1, 11)
    models = [LLAMA, LLAMA | {"block": block | {"ffn_chunk": 4}}]
    whole, chunked = (gradients(randomize(parse("model", m).build(13), 0), tokens) for m in models)
    for name, value in whole.items():
        assert float(mx.abs(chunked[name] - value).max()) < 1e-5, name


def test_an_ffn_that_mixes_positions_has_no_chunks() -> None:
    block = REFORMER["block"] | {"ffn_chunk": 4}
    with pytest.raises(ValidationError, match="unset ffn_chunk"):
        parse("model", LLAMA | {"block": block})
