"""Gradient checkpointing of blocks: the same loss and gradients, bit for bit."""

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest
from contract import models
from contract.adapters import adapted
from contract.objectives import CLM
from contract.suite import VOCAB, Row, parse, randomize
from mlx.utils import tree_flatten

from mlx_transformers.core.context import Context
from mlx_transformers.core.recompute import recompute
from mlx_transformers.layers import residual
from mlx_transformers.trainer.forward import Forward

DROPOUT = models.MIXTRAL | {
    "embed": {"kind": "token", "dropout": 0.1},
    "block": models.MIXTRAL["block"]
    | {
        "dropout": 0.2,
        "mixer": models.MIXTRAL["block"]["mixer"] | {"dropout": 0.3},
        "ffn": models.MIXTRAL["block"]["ffn"]
        | {"expert": models.GLU | {"dropout": 0.3, "bias": True}},
    },
}


def run(config: dict, recomputed: set[int], compiled: bool = False) -> dict[str, mx.array]:
    """Loss, its parts, and every gradient of one training pass."""
    model = randomize(parse("model", config).build(VOCAB), 0)
    model.stack.recomputed = frozenset(recomputed)
    tokens = mx.random.randint(0, VOCAB, (2, 12), key=mx.random.key(1))
    segments = mx.array([[0] * 5 + [1] * 7, [0] * 12])
    mx.eval(tokens, segments)
    objective = Row("objective", "clm", CLM).parse().build()

    def loss(params: Any, key: mx.array) -> Any:
        model.update(params)
        batch = {"tokens": tokens, "segments": segments}
        out = objective({"model": model}, batch, Context(key=key))
        return out.total, out.parts

    def step(key: mx.array) -> Any:
        params = model.trainable_parameters()
        (total, parts), grads = mx.value_and_grad(loss)(params, key)
        model.update(params)
        return {"total": total, "parts": parts, "grads": grads}

    if compiled:
        step = mx.compile(step, inputs=[model.state], outputs=[model.state])
    found = step(mx.random.key(4))
    mx.eval(found)
    return dict(tree_flatten(found))


@pytest.mark.parametrize("recomputed", [{0}, {1}, {0, 1}], ids=str)
@pytest.mark.parametrize(
    "config",
    [DROPOUT, models.BASE, models.GPT2, models.LLAMA],
    ids=["experts_and_dropout", "2017", "gpt2", "llama"],
)
def test_recomputed_blocks_give_the_same_loss_and_gradients(
    config: dict, recomputed: set[int]
) -> None:
    kept, again = run(config, set()), run(config, recomputed)
    assert kept.keys() == again.keys()
    assert all(mx.array_equal(kept[name], again[name]) for name in kept)


@pytest.mark.compiled
def test_a_compiled_pass_that_recomputes_is_the_eager_one_that_keeps() -> None:
    block = models.LLAMA["block"] | {"dropout": 0.2}
    config = models.LLAMA | {"n_layers": 1, "block": block}
    kept, again = run(config, set()), run(config, {0}, compiled=True)
    for name, value in kept.items():
        assert float(mx.abs(again[name] - value).max()) < 1e-4, name


def test_the_pass_under_test_has_dropout_losses_and_statistics() -> None:
    found = run(DROPOUT, {0, 1})
    assert {"parts.balance", "parts.router_z", "parts.max_load/0", "parts.max_load/1"} <= set(found)
    plain = run(DROPOUT | {"block": models.MIXTRAL["block"]}, {0, 1})
    assert not mx.array_equal(found["parts.loss"], plain["parts.loss"])


def test_the_output_of_a_recomputed_function_is_not_saved() -> None:
    array = mx.random.normal((64, 64))
    scale = nn.Linear(64, 64, bias=False)
    again = recompute([scale], lambda x: mx.sin(scale(x)))
    links = 8

    def chain(x: mx.array) -> mx.array:
        for _ in range(links):
            x = x + again(x)  # a sum needs neither of its terms in the backward pass
        return x

    mx.eval(array, scale.parameters())
    before = mx.get_active_memory()
    out, gradient = mx.vjp(chain, [array], [mx.ones_like(array)])
    mx.eval(out)
    assert mx.get_active_memory() - before < 1.5 * links * array.nbytes  # the inputs of the links
    mx.eval(gradient)


def gradients_of_lora(dtype: mx.Dtype, recomputed: set[int]) -> dict[str, mx.array]:
    """Gradients of adapters with dropout on a frozen base, whose weights a pass casts."""
    model = adapted(parse("adapt", {"kind": "lora", "rank": 2, "dropout": 0.3}))
    model.stack.recomputed = frozenset(recomputed)
    forward = Forward(model, Row("objective", "clm", CLM).parse().build(), dtype)
    tokens = mx.random.randint(0, VOCAB, (2, 8), key=mx.random.key(1))

    def loss(params: Any) -> mx.array:
        batch = {"tokens": tokens, "segments": mx.zeros_like(tokens)}
        return forward(params, batch, Context(key=mx.random.key(3))).total

    return dict(tree_flatten(mx.grad(loss)(model.trainable_parameters())))


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16])
def test_a_recomputation_has_the_masks_and_the_casts_of_its_pass(dtype, monkeypatch) -> None:
    found = [gradients_of_lora(dtype, blocks) for blocks in (set(), {0, 1})]
    monkeypatch.setattr(residual, "RECOMPUTED", ())
    saved = gradients_of_lora(dtype, set())
    for gradients in found:
        assert gradients.keys() == saved.keys()
        assert all(mx.array_equal(gradients[name], saved[name]) for name in saved)
