"""The Evoformer as a model: padding, checkpointing, its declared costs, and what is refused."""

from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mlx_transformers.assembly import registry as _registry  # noqa: F401 - fills the slots
from mlx_transformers.assembly.published import typed_model
from mlx_transformers.core.context import Context, Layout
from mlx_transformers.core.errors import RecipeError
from mlx_transformers.core.footprint import ActivationShape
from mlx_transformers.layers.counts import flops_per_token
from mlx_transformers.models.model import recompute_layers
from tests.contract.models import EVOFORMER
from tests.contract.suite import randomize
from tests.contract.test_costs import LEAST, MOST, product_operations

B, S, N = 2, 6, 8
TABLE = EVOFORMER | {"length": N, "max_seq_len": S * N, "n_layers": 2, "pair_dropout": 0.2}
TOKENS = mx.array(np.random.default_rng(0).integers(0, 9, (B, S, N)).astype(np.int32))


def built(**changes: Any) -> Any:
    mx.random.seed(0)
    return randomize(typed_model(TABLE | changes, "a test").build(9), 0)


def answers(
    model: Any, tokens: mx.array, layout: Layout | None = None
) -> tuple[mx.array, mx.array]:
    ctx = Context(layout=layout or Layout())
    letters = model(tokens.flatten(1, 2), ctx)
    return letters.reshape(*tokens.shape, -1), model.pooled(letters, ctx)


def test_padded_sequences_and_residues_change_nothing() -> None:
    few = built(length=N - 2)
    letters, pairs = answers(few, TOKENS[:, : S - 2, : N - 2])
    valid = mx.zeros(TOKENS.shape, mx.bool_)
    valid[:, : S - 2, : N - 2] = True
    padded = answers(built(), TOKENS, Layout(valid=valid.flatten(1, 2)))
    assert mx.allclose(padded[0][:, : S - 2, : N - 2], letters, atol=1e-4)
    assert mx.allclose(padded[1][:, : N - 2, : N - 2], pairs, atol=1e-4)
    assert mx.allclose(pairs, pairs.swapaxes(1, 2), atol=1e-5)


def test_recomputed_blocks_draw_the_same_dropout_and_have_the_same_gradients() -> None:
    model = built(dropout=0.3)

    def loss(parameters: Any) -> mx.array:
        model.update(parameters)
        ctx = Context(key=mx.random.key(3))
        letters = model(TOKENS.flatten(1, 2), ctx)
        return letters.square().mean() + model.pooled(letters, ctx).square().mean()

    run = mx.value_and_grad(loss)
    parameters = model.parameters()
    plain, gradients = run(parameters)
    recompute_layers(model, frozenset({0, 1}))
    again, recomputed = run(parameters)
    assert mx.allclose(plain, again)
    for (name, a), (_, b) in zip(tree_flatten(gradients), tree_flatten(recomputed), strict=True):
        assert mx.allclose(a, b, atol=1e-6), name


def test_declared_operations_are_those_of_all_products(monkeypatch: pytest.MonkeyPatch) -> None:
    model = built()

    def forward(tokens: mx.array, training: bool) -> mx.array:
        letters, pairs = answers(model, tokens)
        return letters.sum() + pairs.sum()

    measured = product_operations(forward, TOKENS, monkeypatch)
    declared = flops_per_token(model, S * N) / 3 * TOKENS.size
    assert declared == pytest.approx(measured, rel=0.1)


def test_declared_memory_is_that_which_the_backward_needs() -> None:
    wide = {"dim": 32, "pair_dim": 32}
    block = built(**wide).stack.blocks[0]
    (tower,) = typed_model(TABLE | wide, "a test").towers()
    rng = np.random.default_rng(1)
    shapes = ((B, S, N, 32), (B, N, N, 32))
    m, z = (mx.array(rng.standard_normal(shape).astype(np.float32)) for shape in shapes)
    leaves = tree_flatten(block.parameters())

    def run(m: mx.array, z: mx.array, *values: mx.array) -> list[mx.array]:
        block.load_weights([(n, v) for (n, _), v in zip(leaves, values, strict=True)])
        return list(block(m * 1.0, z * 1.0))

    inputs = [m, z, *(value for _, value in leaves)]
    cotangents = [mx.ones(m.shape), mx.ones(z.shape)]
    mx.eval(inputs, cotangents)
    before = mx.get_active_memory()
    outs, gradients = mx.vjp(run, inputs, cotangents)
    mx.eval(outs)
    found = mx.get_active_memory() - before
    mx.eval(gradients)
    declared = B * S * N * tower.layers[0].saved_bytes(32, ActivationShape(B, S * N))
    size = m.nbytes + z.nbytes
    assert LEAST * (found - size) <= declared <= MOST * found


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"max_seq_len": 20}, "no multiple of length = 8"),
        ({"pool": {"kind": "classifier", "n_classes": 2}}, "set pool.kind = 'distogram'"),
    ],
)
def test_tables_that_do_not_fit_are_refused(change: dict[str, Any], told: str) -> None:
    with pytest.raises(Exception, match=told):
        typed_model(TABLE | change, "a test")


def test_a_row_that_is_no_alignment_is_refused() -> None:
    with pytest.raises(RecipeError, match="no whole number of sequences of 8 residues"):
        built()(TOKENS.flatten(1, 2)[:, :-1])
