"""Encoders and encoder-decoders: against NumPy, padding on either side, gradients of the source."""

from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from contract import models, reference
from contract.suite import VOCAB, Row, difference, parse, randomize, weights_of
from mlx.utils import tree_flatten
from pydantic import ValidationError

from mlx_transformers.core.context import Collected, Context, Layout, Recording
from mlx_transformers.models.model import recompute_layers, recomputed_layers

PAIRS = [row for row in models.ROWS if row.kind == "encoder_decoder"]
SOURCE = mx.array([[3, 1, 4, 1, 5, 9], [2, 7, 1, 8, 0, 0]])
VALID = mx.array([[True] * 6, [True] * 4 + [False] * 2])
TARGET = mx.array([[1, 2, 3, 4], [5, 6, 7, 8]])


def pair(**changes: Any) -> Any:
    return randomize(parse("model", models.T5 | changes).build(VOCAB), 0)


@pytest.mark.parametrize("row", [r for r in models.ROWS if r.kind == "encoder"], ids=str)
def test_an_encoder_is_the_composition_that_its_recipe_says(row: Row) -> None:
    subject = row.subject()
    tokens, w = subject.inputs(), reference.below(weights_of(subject), "it")
    expected = reference.encoder(np.asarray(tokens), w, row.config)
    np.testing.assert_allclose(subject(tokens, Context()), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("row", PAIRS, ids=str)
def test_a_pair_is_the_composition_that_its_recipe_says(row: Row) -> None:
    model = randomize(row.parse().build(VOCAB), 0)
    w = weights_of(model)
    expected = reference.encoder_decoder(np.asarray(SOURCE), np.asarray(TARGET), w, row.config)
    np.testing.assert_allclose(model(SOURCE, TARGET), expected, rtol=1e-4, atol=1e-4)


def test_a_padded_source_says_what_it_would_say_without_padding() -> None:
    model = pair()
    padded = model(SOURCE, TARGET, Context(memory_valid=VALID))
    alone = model(SOURCE[1:, :4], TARGET[1:])
    assert difference(padded[1:], alone) < 1e-5
    assert difference(model(SOURCE, TARGET)[1:], alone) > 1e-3


def test_encoder_and_decoder_of_speech_draw_dropout_from_different_keys() -> None:
    model = randomize(parse("model", models.SPEECH).build(VOCAB), 0)
    ctx = Context(key=mx.random.key(0))
    model.encode(mx.zeros((1, 2, 3)), ctx)
    assert np.array(ctx.key).tolist() != np.array(mx.random.key(0)).tolist()


def test_a_cross_attention_says_where_it_looked() -> None:
    config = {"kind": "cross_attention", "n_heads": 4, "n_kv_heads": 2, "softcap": 3.0}
    mixer = randomize(parse("mixer", config).build(16), 0)
    x, memory = mx.random.normal((2, 3, 16)), mx.random.normal((2, 6, 16))
    seen = Recording()
    mixer(x, Context(collected=Collected(observer=seen), memory=memory, memory_valid=VALID))
    q = (np.array(x) @ np.array(mixer.q.weight).T).reshape(2, 3, 4, 4)
    k = (np.array(memory) @ np.array(mixer.k.weight).T).reshape(2, 6, 2, 4).repeat(2, axis=2)
    scores = 3.0 * np.tanh(np.einsum("bthk,bshk->bhts", q, k) / 2 / 3.0)
    powers = np.exp(scores) * np.array(VALID)[:, None, None]
    expected = powers / powers.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(seen.arrays[0][1], expected, rtol=1e-4, atol=1e-6)


def test_an_alignment_is_that_of_the_last_block_and_leaves_padding_out() -> None:
    model = pair()
    weights = model.alignment(SOURCE, TARGET, VALID)
    assert weights.shape == (2, 4, 6)
    assert difference(weights.sum(axis=-1), mx.ones((2, 4))) < 1e-5
    assert float(mx.abs(weights[1, :, 4:]).max()) == 0.0
    last = model.decoder.stack.layers()[-1]
    last.cross.q.weight = mx.zeros_like(last.cross.q.weight)
    even = model.alignment(SOURCE, TARGET, VALID)
    assert difference(even, VALID[:, None] / VALID.sum(axis=1)[:, None, None]) < 1e-5


def test_a_target_is_decoded_step_by_step_beside_a_padded_source() -> None:
    model = pair()
    whole = model(SOURCE, TARGET, Context(memory_valid=VALID))
    state = model.init_state(2, 4, given={"source": SOURCE, "source_valid": VALID})
    for t in range(4):
        logits, state = model.step(TARGET[:, t : t + 1], state)
        assert difference(logits[:, 0], whole[:, t]) < 1e-5


@pytest.mark.parametrize("recomputed", [{0, 1}, {2}, {0, 1, 2, 3}], ids=str)
def test_recomputed_layers_of_both_stacks_give_the_same_gradients(recomputed: set[int]) -> None:
    model = pair()

    def gradients() -> dict[str, mx.array]:
        params = model.trainable_parameters()

        def loss(params: Any) -> mx.array:
            model.update(params)
            return (model(SOURCE, TARGET, Context(memory_valid=VALID)) ** 2).sum()

        found = mx.grad(loss)(params)
        model.update(params)
        return dict(tree_flatten(found))

    kept = gradients()
    recompute_layers(model, frozenset(recomputed))
    assert recomputed_layers(model) == recomputed
    again = gradients()
    # What reads the memory hands its gradient back in another order.
    assert all(difference(kept[name], again[name]) < 1e-4 for name in kept)
    assert float(mx.abs(kept["encoder.stack.blocks.0.mixer.q.weight"]).max()) > 0


def test_one_table_serves_both_sides_and_two_do_not() -> None:
    assert "encoder.embed.table.weight" not in weights_of(pair())
    assert "encoder.embed.table.weight" in weights_of(pair(shared=False))


@pytest.mark.parametrize("config", [models.LLAMA, models.GPT2, models.ALTERNATING], ids=len)
def test_prompts_padded_on_the_left_go_on_as_if_they_were_alone(config: dict) -> None:
    model = randomize(parse("model", config).build(VOCAB), 0)
    prompts = mx.array([[9, 9, 9, 1, 2, 3], [4, 5, 6, 7, 8, 1]])
    state = model.init_state(2, 12, pad=mx.array([3, 0]))
    logits, state = model.step(prompts, state)
    alone, own = model.step(prompts[:1, 3:], model.init_state(1, 12))
    assert difference(logits[:1, 3:], alone) < 1e-5
    for token in (2, 5, 3):
        logits, state = model.step(mx.array([[token], [token]]), state)
        alone, own = model.step(mx.array([[token]]), own)
        assert difference(logits[:1], alone) < 1e-5


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("config", [models.LLAMA, models.BERT, models.ALTERNATING], ids=len)
def test_padding_on_either_side_changes_nothing(config: dict, side: str) -> None:
    model = randomize(parse("model", config).build(VOCAB), 0)
    row, filler = [1, 2, 3, 4, 5], [9, 9, 9]
    tokens = mx.array([filler + row if side == "left" else row + filler])
    valid = mx.array([[t != 9 for t in tokens[0].tolist()]])
    positions = mx.maximum(mx.cumsum(valid.astype(mx.int32), axis=1) - 1, 0)
    padded = model(tokens, Context(Layout(valid=valid, positions=positions)))
    kept = padded[:, 3:] if side == "left" else padded[:, :5]
    assert difference(kept, model(mx.array([row]))) < 1e-5


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"decoder": models.TOWER}, "no cross mixer"),
        ({"encoder": models.T5["decoder"]}, "nothing to read"),
    ],
)
def test_a_pair_that_makes_no_sense_is_an_error(changes: dict, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        parse("model", models.T5 | changes)
