"""The decoder: whole models against NumPy, patterns, the errors of its table."""

import mlx.core as mx
import numpy as np
import pytest
from contract import models, reference
from contract.recurrent import SEQ2SEQ
from contract.suite import BATCH, MAX_LEN, VOCAB, Row, parse, weights_of
from mlx.utils import tree_flatten
from pydantic import ValidationError

from mlx_transformers.core.context import Context
from mlx_transformers.core.errors import RunError
from mlx_transformers.optim.optimizer import of_role

PLAIN = [
    row
    for row in models.ROWS
    if row.kind == "decoder" and not {"depth", "reversible"} & row.config.keys()
]
"""Layers that run once each, in order; test_depth.py and test_reversible.py have the others."""


@pytest.mark.parametrize("row", PLAIN, ids=str)
def test_a_model_is_the_composition_that_its_recipe_says(row: Row) -> None:
    subject = row.subject()
    tokens = subject.inputs()
    w = reference.below(weights_of(subject), "it")
    expected = reference.decoder(np.asarray(tokens), w, row.config)
    np.testing.assert_allclose(subject(tokens, Context()), expected, rtol=1e-4, atol=1e-4)


def test_a_pattern_is_repeated_to_the_number_of_layers() -> None:
    config = parse("model", models.ALTERNATING | {"n_layers": 5})
    windows = [block.mixer.window for block in config.layers()]
    assert windows == [3, None, 3, None, 3]
    built = config.build(VOCAB).stack.blocks
    assert [block.mixer.window for block in built] == windows
    assert ["post" in block.mixer_residual for block in built] == [False, True, False, True, False]


def test_without_a_pattern_every_layer_is_the_block() -> None:
    config = parse("model", models.LLAMA)
    assert config.layers() == [config.block] * 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pattern": ["local", "globl"]}, "'globl'. Did you mean 'global'"),
        ({"pattern": None}, "without pattern"),
        ({"pattern": ["local"]}, "blocks.global is the block of none of the 3 layers"),
        ({"n_layers": 1}, "blocks.global is the block of none of the 1 layers"),
        ({"n_layers": 0}, "greater than or equal to 1"),
        ({"widht": 3}, "Extra inputs are not permitted"),
    ],
)
def test_a_table_that_makes_no_sense_is_an_error(changes: dict, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        parse("model", models.ALTERNATING | changes)


def test_a_state_longer_than_the_learned_positions_is_refused() -> None:
    learned = parse("model", models.GPT2).build(VOCAB)
    learned.init_state(1, MAX_LEN)
    with pytest.raises(RunError, match="33 tokens has no learned positions beyond 32"):
        learned.init_state(1, MAX_LEN + 1)
    parse("model", models.LLAMA).build(VOCAB).init_state(1, MAX_LEN + 1)


@pytest.mark.parametrize("config", [models.T5, SEQ2SEQ], ids=["stacks", "recurrent"])
def test_targets_of_an_encoder_decoder_have_no_padding_before_them(config: dict) -> None:
    given = {"source": mx.array([[3, 1, 4], [1, 5, 9]])}
    model = parse("model", config).build(VOCAB)
    model.init_state(2, 6, given=given)
    with pytest.raises(RunError, match="without padding"):
        model.init_state(2, 6, given=given, pad=mx.array([0, 2]))


def test_the_state_is_a_tree_of_arrays_and_its_offset_counts_tokens() -> None:
    subject = models.ROWS[0].subject()
    state = subject.init_state(BATCH, 9, mx.float16)
    assert all(isinstance(leaf, mx.array) for _, leaf in tree_flatten(state))
    _, state = subject.step(subject.inputs(length=5), state)
    assert int(state["offset"]) == 5


def test_hidden_and_unembedding_make_the_logits() -> None:
    model = models.ROWS[0].subject().it
    tokens = mx.array([[1, 2, 3]])
    ctx, out = Context(), model.unembedding()
    h = model.hidden(model.embedded({"tokens": tokens}, ctx), ctx)
    np.testing.assert_allclose(h @ out.weight.T, model(tokens), rtol=1e-5, atol=1e-5)


def test_every_layer_draws_dropout_masks_of_its_own() -> None:
    # Each block adds dropout(1) and nothing else: 0, 2 or 4 in all; never 2 if masks were shared.
    ffn = {"kind": "mlp", "hidden_dim": 4, "activation": "relu", "bias": True}
    block = models.BLOCK | {"ffn": ffn, "dropout": 0.5}
    model = parse("model", models.LLAMA | {"block": block}).build(VOCAB)
    for layer in model.stack.blocks:
        layer.mixer.o.weight = mx.zeros_like(layer.mixer.o.weight)
        layer.ffn.down.weight = mx.zeros_like(layer.ffn.down.weight)
        layer.ffn.down.bias = mx.ones_like(layer.ffn.down.bias)
    x = mx.zeros((4, 50, 16))
    y = model.stack(x, Context(key=mx.random.key(0), position=model.position))
    assert set(np.unique(np.asarray(y))) == {0.0, 2.0, 4.0}
    assert abs(float((y == 2.0).mean()) - 0.5) < 0.05


def test_weight_decay_knows_the_biases_of_experts_from_matrices() -> None:
    block = models.BLOCK | {"ffn": models.MOE | {"expert": models.MLP | {"bias": True}}}
    model = parse("model", models.LLAMA | {"block": block}).build(VOCAB)
    matrix = of_role(model, "matrix", "table")
    found = {name: matrix(name, w) for name, w in tree_flatten(model.parameters())}
    assert not any(matrix for name, matrix in found.items() if name.endswith("bias"))
    assert found["stack.blocks.0.ffn.experts.up.weight"]
    assert not found["norm.weight"]
