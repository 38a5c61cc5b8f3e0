"""Recurrent encoder-decoders against the papers' formulas in NumPy, and what padding does."""

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.core.context import Context
from mlx_transformers.core.errors import RecipeError
from mlx_transformers.layers.positions.position import Position

from . import reference_recurrent
from .aligns import LOCAL
from .cells import GRU, LSTM
from .recurrent import BAHDANAU, LUONG, SEQ2SEQ
from .suite import VOCAB, difference, parse, randomize, weights_of

AFTER = BAHDANAU | {"attend": "after", "align": {"kind": "general"}}
KINDS = {
    "bahdanau": BAHDANAU,
    "luong": AFTER | {"input_feeding": False},
    "luong, fed": AFTER | {"input_feeding": True, "align": {"kind": "concat"}},
    "luong, local": AFTER | {"input_feeding": True, "align": LOCAL},
    "bahdanau's, dot": BAHDANAU | {"align": {"kind": "dot"}},
}
SOURCE = np.array([[3, 1, 4, 1, 5, 9, 2, 6], [2, 7, 1, 8, 2, 0, 0, 0]])
VALID = np.arange(8)[None] < np.array([[8], [5]])
TOKENS = np.array([[0, 5, 3, 5, 8, 9], [0, 1, 1, 2, 3, 5]])


def model_of(config: dict) -> object:
    return randomize(parse("model", config).build(VOCAB), 0)


@pytest.mark.parametrize("name", KINDS)
def test_logits_and_alignments_are_the_formula(name: str) -> None:
    config = {"input_feeding": False} | KINDS[name]
    model = model_of(config)
    arrays = mx.array(SOURCE), mx.array(TOKENS)
    logits = model(*arrays, Context(memory_valid=mx.array(VALID)))
    weights = model.alignment(*arrays, mx.array(VALID))
    for b, length in enumerate((8, 5)):
        expected, seen = reference_recurrent.seq2seq(
            SOURCE[b, :length], TOKENS[b], weights_of(model), config
        )
        np.testing.assert_allclose(logits[b], expected, atol=2e-5)
        np.testing.assert_allclose(weights[b, :, :length], seen, atol=1e-5)


@pytest.mark.parametrize("config", [SEQ2SEQ, BAHDANAU, LUONG], ids=["plain", "bahdanau", "luong"])
def test_a_padded_source_is_the_source_alone(config: dict) -> None:
    model = model_of(config)
    padded = model(mx.array(SOURCE), mx.array(TOKENS), Context(memory_valid=mx.array(VALID)))
    alone = model(mx.array(SOURCE[1:, :5]), mx.array(TOKENS[1:]))
    assert difference(padded[1:], alone) < 1e-5


@pytest.mark.parametrize("config", [SEQ2SEQ, BAHDANAU, LUONG], ids=["plain", "bahdanau", "luong"])
def test_decoding_beside_a_padded_source_gives_the_whole_sequence(config: dict) -> None:
    model = model_of(config)
    ctx = Context(memory_valid=mx.array(VALID))
    whole = model(mx.array(SOURCE), mx.array(TOKENS), ctx)
    given = {"source": mx.array(SOURCE), "source_valid": mx.array(VALID)}
    state = model.init_state(2, 6, given=given)
    for t in range(TOKENS.shape[1]):
        logits, state = model.step(mx.array(TOKENS[:, t : t + 1]), state)
        assert difference(logits[:, 0], whole[:, t]) < 1e-5


def test_a_fast_way_through_all_steps_is_the_loop() -> None:
    model = model_of(AFTER | {"decoder": {"cell": GRU, "n_layers": 1}})
    arrays = mx.array(SOURCE), mx.array(TOKENS)
    fast = model(*arrays)
    memory = model.encode(arrays[0], Context())
    ctx = Context(position=Position())
    looped, _, _ = model.decoder(
        model.embed(arrays[1], ctx),
        model.decoder.init_state(memory["begin"]),
        model.decoder.make_keys(memory["h"], None),
        ctx,
        choose=lambda t, given, y: given,
    )
    assert difference(model.head(looped, model.embed.table), fast) < 1e-5


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"decoder": {"cell": GRU, "n_layers": 1, "bidirectional": True}}, "what it is to write"),
        ({"align": None}, "no effect without align"),
        ({"input_feeding": True}, "goes with attend = 'after'"),
        ({"encoder": {"cell": GRU, "n_layers": 2}}, "2 and 1 layers don't pair"),
        ({"encoder": {"cell": LSTM, "n_layers": 1}}, "must be of one kind"),
    ],
)
def test_settings_that_do_not_go_together_are_errors(changes: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse("model", BAHDANAU | changes)


def test_states_are_not_copied_between_layers_of_other_widths() -> None:
    wide = SEQ2SEQ | {"encoder": SEQ2SEQ["encoder"] | {"hidden_dim": 20}}
    with pytest.raises(RecipeError, match="between layers of 20 and 16 units"):
        parse("model", wide).build(VOCAB)
    assert parse("model", wide | {"bridge": "tanh"}).build(VOCAB) is not None


def test_a_model_without_alignment_says_so() -> None:
    with pytest.raises(RecipeError, match=r"has no model\.align"):
        model_of(SEQ2SEQ).alignment(mx.array(SOURCE), mx.array(TOKENS))
