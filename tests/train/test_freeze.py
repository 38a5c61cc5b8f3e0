"""`train.freeze`: frozen arrays have no gradient, no optimizer state and no place in the plan."""

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten

from mlx_transformers.assembly.checks import check_start
from mlx_transformers.assembly.model import draft_model
from mlx_transformers.assembly.plan import plan
from mlx_transformers.assembly.saved import load
from mlx_transformers.compress.capture import linear_layers
from mlx_transformers.core.context import Context
from mlx_transformers.core.errors import RecipeError
from mlx_transformers.ops.packed import Packing, rounded
from mlx_transformers.runs import checkpoint
from mlx_transformers.verbs.evaluate import evaluate

from . import tiny

FREEZE = "train.freeze=['embed', 'stack.blocks.0', '*.pre']"
ROUTER = '{kind="sigmoid", top_k=2, normalize=true, speed=0.01}'
EXPERT = '{kind="glu", hidden_dim=16, activation="silu"}'
BALANCED = f'model.block.ffn={{kind="moe", n_experts=4, expert={EXPERT}, router={ROUTER}}}'


def is_frozen(name):
    return name.startswith(("embed.", "stack.blocks.0.")) or ".pre." in name


def names(tree):
    return {name for name, _ in tree_flatten(tree)}


@pytest.mark.parametrize(
    "sets",
    [
        ("train.ema=0.5",),
        ("train.dtype='bfloat16'", "train.accumulate=2"),
        ("train.recompute='all'", "optim.layer_factor=2.0"),
    ],
    ids=["ema", "bfloat16", "recompute"],
)
def test_frozen_weights_stay_and_the_others_learn(tmp_path, sets):
    built = tiny.built(tmp_path, FREEZE, *sets)
    before = {name: mx.array(x) for name, x in tree_flatten(built.model.parameters())}
    batch = {"tokens": mx.array(tiny.tokens((4, 17), built.tokenizer.vocab_size))}
    for index in range(2):
        mx.eval(built.step([batch] * built.recipe.train.accumulate, index), built.step.state)
    for name, value in tree_flatten(built.model.parameters()):
        assert mx.array_equal(value, before[name]).item() == is_frozen(name), name
        assert value.dtype == mx.float32
    state = built.step.train_state
    held = {name for name in names(state.optimizer.state) if name.endswith(".m")}
    assert held
    assert not any("embed" in name or "blocks.0." in name for name in held)
    if state.ema is not None:
        assert names(state.ema.average) == {name for name in before if not is_frozen(name)}
    assert built.counts.trainable < built.counts.total


def test_a_frozen_run_saves_all_and_resumes_to_the_bit(tmp_path):
    every = (
        'optim.schedule={kind="constant"}',
        "checkpoint.every=3",
        "eval.every=3",
        "train.ema=0.5",
    )
    whole = tiny.run(tmp_path, FREEZE, *every, name="whole")
    half = tiny.run(tmp_path, FREEZE, *every, "train.steps=3", name="half")
    saved, _ = checkpoint.load(half.folder.newest(), only=["model"])
    assert names(saved["model"]) == names(load(half.folder.path)[0].parameters())
    again = tiny.run(tmp_path, FREEZE, *every, name="half", resume="auto")
    trees, others = (checkpoint.load(r.folder.newest())[0] for r in (whole, again))
    for stem in ("model", "optimizer", "ema"):
        assert tiny.same(trees[stem], others[stem])


def test_the_plan_counts_no_gradients_and_moments_of_frozen_weights(tmp_path):
    def planned(*sets):
        recipe = tiny.recipe(tmp_path, "train.accumulate=2", "train.ema=0.5", *sets)
        model = draft_model(recipe)
        return plan(recipe, model).account.held, model

    (free, _), (held, model) = planned(), planned(FREEZE)
    trained = sum(x.nbytes for _, x in tree_flatten(model.trainable_parameters()))
    assert held["weights"] == free["weights"]
    assert held["accumulated gradients"] == held["average of weights"] == trained < free["weights"]
    assert held["optimizer"] == pytest.approx(2 * trained, abs=100)


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ("['stack.block.0']", r"'stack\.block\.0'.*Did you mean 'stack\.blocks\.0'\?"),
        ("['embed', 'vision']", r"'vision', which matches no module.*Its top modules: embed"),
        ("['*']", "freezes every parameter"),
    ],
)
def test_a_path_that_matches_nothing_is_an_error(tmp_path, paths, message):
    with pytest.raises(RecipeError, match=message):
        draft_model(tiny.recipe(tmp_path, f"train.freeze={paths}"))


def test_an_average_beside_frozen_state_loads_again(tmp_path):
    """A router's balance is in the model and not in the average of its trained weights."""
    result = tiny.run(tmp_path, BALANCED, "train.ema=0.5", "eval.every=6", "checkpoint.every=6")
    trees, _ = checkpoint.load(result.folder.best())
    model, _ = load(result.folder.path)
    loaded, average = (dict(tree_flatten(t)) for t in (model.parameters(), trees["ema"]["average"]))
    for name, value in tree_flatten(trees["model"]):
        assert mx.array_equal(loaded[name], average.get(name, value)), name
    assert loaded.keys() - average.keys() == {
        f"stack.blocks.{i}.ffn.router.balance" for i in range(2)
    }
    _, found = evaluate(result.folder.path)
    assert found["val_loss"] == tiny.records(result, "val_loss")[-1][1]


@pytest.mark.parametrize("kind", ["top_k", "sigmoid"])
def test_a_router_without_a_gradient_must_be_frozen(tmp_path, kind):
    tiny.write(tmp_path)
    one = f'router={{kind="{kind}", top_k=1, normalize=true}}'
    sets = [f'model.block.ffn={{kind="moe", n_experts=4, expert={EXPERT}, {one}}}']
    recipe = tiny.recipe(tmp_path, *sets)  # which can be imported and run
    with pytest.raises(RecipeError, match=r"stack.blocks.\d.ffn.router has top_k = 1 .*freeze"):
        check_start(recipe, draft_model(recipe))
    adapted = 'adapt={kind="lora", rank=2, targets=["mixer"]}'
    for alone in ("train.freeze=['*.router']", adapted):
        recipe = tiny.recipe(tmp_path, *sets, alone)
        check_start(recipe, draft_model(recipe))


def test_frozen_layers_compute_with_rounded_weights_as_trained_ones_do(tmp_path):
    sets = (FREEZE, "model.dim=32", "model.block.ffn.hidden_dim=32")
    rounding = tiny.built(tmp_path, *sets, "quantize={bits=2, group_size=32}")
    batch = {"tokens": mx.array(tiny.tokens((4, 17), rounding.tokenizer.vocab_size))}
    plain = tiny.built(tmp_path, *sets)

    def loss(built):
        found = built.step.loss(built.model.trainable_parameters(), batch, Context())
        return (found.total / found.weight).item()

    assert loss(rounding) != pytest.approx(loss(plain), rel=1e-4)
    for layer in linear_layers(plain.model).values():
        layer["weight"] = rounded(layer["weight"], Packing(2, 32, "affine"))
    assert loss(rounding) == pytest.approx(loss(plain), rel=1e-6)


def test_adapters_on_a_rounded_base_are_refused_to_new_runs_and_not_to_saved_ones(
    tmp_path, monkeypatch
):
    sets = ("quantize={bits=2, group_size=32}", 'adapt={kind="lora"}')
    sets += ("model.dim=32", "model.block.ffn.hidden_dim=32")
    with pytest.raises(RecipeError, match=r"leave \[quantize\] out, and set adapt.base_bits = 2"):
        tiny.run(tmp_path, *sets, "train.steps=2", name="old")
    with monkeypatch.context() as before:
        before.setattr("mlx_transformers.verbs.train.check_start", lambda *parts: None)
        old = tiny.run(tmp_path, *sets, "train.steps=2", name="old")
    assert evaluate(old.folder.path)[1]["val_loss"] > 0
    again = tiny.run(tmp_path, *sets, "train.steps=3", name="old", resume="auto")
    assert again.progress.step == 3


def test_rows_of_a_new_run_must_fit_what_a_prefix_leaves_of_learned_positions(tmp_path):
    sets = ('adapt={kind="prefix", length=4}', 'model.position={kind="learned"}')
    with pytest.raises(RecipeError, match=r"train\.seq_len = 16 exceeds the 12 positions"):
        tiny.run(tmp_path, *sets)
