"""Rates by layer and gradual unfreezing, seen in the updates of a real model."""

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten, tree_map
from pydantic import TypeAdapter

from mlx_transformers.assembly import registry  # noqa: F401 - fills the slots
from mlx_transformers.core.errors import RecipeError
from mlx_transformers.layers.parameter import layers_above
from mlx_transformers.models.encoder import Encoder
from mlx_transformers.optim.adam import Adam, AdamW
from mlx_transformers.optim.muon import Muon
from mlx_transformers.optim.optimizer import learning_rate
from mlx_transformers.optim.sgd import Sgd

RATE = 0.1
ABOVE = {"pool": 0, "stack.blocks.2": 1, "stack.blocks.1": 2, "stack.blocks.0": 3, "embed": 4}


@pytest.fixture
def model():
    norm = {"kind": "layer_norm"}
    table = {
        "kind": "encoder",
        "dim": 8,
        "n_layers": 3,
        "max_seq_len": 8,
        "embed": {"kind": "token"},
        "position": {"kind": "learned"},
        "norm": norm,
        "pool": {"kind": "classifier", "n_classes": 2},
        "init": {"kind": "normal", "std": 0.1},
        "block": {
            "placement": "post",
            "norm": norm,
            "mixer": {"kind": "attention", "n_heads": 2},
            "ffn": {"kind": "mlp", "hidden_dim": 8, "activation": "gelu"},
        },
    }
    return TypeAdapter(Encoder).validate_python(table).build(11)


def flat(model):
    return {name: array + 0 for name, array in tree_flatten(model.trainable_parameters())}


def moves(model, optimizer, steps=1):
    """How far each parameter moved in each update, all of whose gradients are 1."""
    state = [model.state, optimizer.state]

    def update():
        optimizer.update(model, tree_map(mx.ones_like, model.trainable_parameters()))

    compiled = mx.compile(update, inputs=state, outputs=state)
    for _ in range(steps):
        before = flat(model)
        mx.eval(before)
        compiled()
        after = flat(model)
        yield {name: float(mx.abs(after[name] - before[name]).mean()) for name in before}


def of(moved, prefix):
    found = [value for name, value in moved.items() if name.startswith(prefix)]
    assert found
    return found


def test_heights_count_from_what_answers_in_every_stack(model):
    above = layers_above(model)
    for prefix, height in ABOVE.items():
        assert set(of(above, prefix)) == {height}
    assert above["position.table.weight"] == 4
    assert above["norm.weight"] == 0


@pytest.mark.parametrize("kind", [Sgd, Adam, AdamW])
def test_every_layer_moves_by_its_share_of_the_rate(model, kind):
    optimizer = kind(learning_rate=RATE, layer_factor=2.6).build(model, 10)
    (moved,) = moves(model, optimizer)
    assert moved.keys() == flat(model).keys()
    for prefix, height in ABOVE.items():
        share = RATE * 2.6**-height
        assert of(moved, prefix) == pytest.approx([share] * len(of(moved, prefix)), rel=1e-4)
    assert float(learning_rate(optimizer)) == pytest.approx(RATE)


def test_layers_begin_one_by_one_from_the_top(model):
    config = AdamW(learning_rate=RATE, weight_decay=0.1, unfreeze_every=2)
    for step, moved in enumerate(moves(model, config.build(model, 10), steps=10)):
        for prefix, height in ABOVE.items():
            awake = step >= 2 * height
            assert all((value > 0) == awake for value in of(moved, prefix)), (step, prefix)


def test_groups_by_layer_do_not_mix_with_groups_of_decay_or_of_muon(model):
    for config in (
        AdamW(learning_rate=RATE, weight_decay=0.5),
        Muon(learning_rate=RATE, weight_decay=0.5, rest=("embed", "position", "pool")),
    ):
        one = flat(model)
        mx.eval(one)
        (plain,) = moves(model, config.build(model, 10))
        model.load_weights(list(one.items()))
        near = config.model_copy(update={"layer_factor": 1.0 + 1e-9})
        (layered,) = moves(model, near.build(model, 10))
        model.load_weights(list(one.items()))
        assert layered == pytest.approx(plain, rel=1e-4)


def test_a_run_that_ends_before_the_lowest_layer_begins_is_refused(model):
    with pytest.raises(RecipeError, match=r"begin at update 20, and the run ends at 20: take 4 "):
        AdamW(learning_rate=RATE, unfreeze_every=5).build(model, 20)
