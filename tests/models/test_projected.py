"""Norms before projections, computed again in the backward pass instead of saved."""

from typing import Any

import mlx.core as mx
import pytest
from contract import models
from contract.rows import ROWS
from contract.suite import parse, randomize
from mlx.utils import tree_flatten

from mlx_transformers.core.context import Context
from mlx_transformers.core.footprint import ActivationShape
from mlx_transformers.layers import residual
from mlx_transformers.layers.block import Block, BlockModule
from mlx_transformers.ops.device import on_cpu

B, T, D = 4, 64, 64
GATED = models.BLOCK | {"mixer": models.HEADS | {"gate": "sigmoid"}}
BLOCKS = {
    "gated": GATED,
    "sandwich": models.BLOCK | {"placement": "sandwich"},
    "mlp": models.GPT2["block"] | {"dropout": 0.0},
}


def built(config: dict[str, Any]) -> BlockModule:
    block: BlockModule = randomize(Block.model_validate(config).build(D, T), 0)
    mx.eval(block.parameters())
    return block


def run(block: BlockModule) -> tuple[dict[str, mx.array], int]:
    """Gradients of a block, and the bytes that its forward saves for them."""
    x = mx.random.normal((B, T, D), key=mx.random.key(1))
    names, values = zip(*tree_flatten(block.trainable_parameters()), strict=True)

    def forward(x: mx.array, *values: mx.array) -> mx.array:
        block.load_weights(list(zip(names, values, strict=True)))
        ctx = Context(
            key=mx.random.key(0), position=parse("position", {"kind": "rope"}).build(D, T)
        )
        return block(x * 1.0, ctx)  # a copy of the input, which the plan counts

    cotangent = mx.sin(x)
    mx.eval(x, cotangent)
    mx.clear_cache()
    before = mx.get_active_memory()
    out, gradients = mx.vjp(forward, [x, *values], [cotangent])
    mx.eval(out)
    saved = mx.get_active_memory() - before - out[0].nbytes
    mx.eval(gradients)
    block.load_weights(list(zip(names, values, strict=True)))
    return dict(zip(["x", *names], gradients, strict=True)), saved


@pytest.mark.parametrize("config", BLOCKS.values(), ids=list(BLOCKS))
def test_norms_computed_again_give_the_same_gradients_from_less_memory(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (again, less), at = run(built(config)), ActivationShape(B, T, cpu=on_cpu())
    planned = Block.model_validate(config).saved_bytes(D, at)
    monkeypatch.setattr(residual, "RECOMPUTED", ())
    kept, more = run(built(config))
    assert again.keys() == kept.keys()
    assert all(mx.array_equal(again[name], kept[name]) for name in kept)
    counted = (Block.model_validate(config).saved_bytes(D, at) - planned) * B * T
    statistics = 2 * 2 * B * T * 4  # two of each norm's rows
    assert more - less == pytest.approx(counted, abs=1.1 * statistics)


@pytest.mark.parametrize("row", [row for row in ROWS if row.slot in ("mixer", "ffn")], ids=str)
def test_kinds_that_project_have_modules_that_do(row: Any) -> None:
    kind = row.parse()
    module = kind.build(16)
    assert kind.projects_first == hasattr(module, "projections")
