"""Runs whose model grows: exact resume across a growth, refusals, and checkpoints of each stage."""

import gc
import weakref

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mlx_transformers.assembly import build as build_room
from mlx_transformers.assembly.build import build
from mlx_transformers.assembly.recipe import load_recipe
from mlx_transformers.assembly.saved import load
from mlx_transformers.certify.subject import Subject, eager
from mlx_transformers.core.errors import RecipeError
from mlx_transformers.trainer import loop
from mlx_transformers.verbs import train as train_verb
from mlx_transformers.verbs.evaluate import evaluate
from mlx_transformers.verbs.export_run import exportable
from mlx_transformers.verbs.stages import grow_built

from . import tiny

STAGES = (
    'grow=[{at=2, n_layers=3, method="stack"}, {at=4, n_layers=4, hidden_dim=40}]',
    "optim.schedule={kind='constant'}",
    "checkpoint.every=1",
    "checkpoint.keep=9",
    "train.ema=0.9",
    "eval.every=3",
    "eval.batches=1",
)


def test_a_run_resumed_around_a_growth_is_the_whole_one(tmp_path, monkeypatch):
    """Stopped before the model grows, and between two stages."""
    smaller, held = [], []

    def grow(built, *rest):
        gc.collect()
        held.append([each() for each in smaller])
        smaller.append(weakref.ref(built.model))
        return grow_built(built, *rest)

    monkeypatch.setattr(train_verb, "grow_built", grow)
    whole = tiny.run(tmp_path, *STAGES, name="whole")
    assert held == [[], [None]]
    saved = whole.folder.checkpoints
    models = [load(saved / f"step-{n:06d}")[0] for n in (2, 3, 5)]
    assert [len(model.stack.blocks) for model in models] == [2, 3, 4]
    assert models[2].stack.blocks[0].ffn.up.weight.shape[0] == 40
    assert evaluate(saved / "step-000002", 1, tmp_path / "runs")[1]["val_loss"] > 0
    assert load_recipe(whole.folder.recipe).model.n_layers == 4
    assert exportable(saved / "step-000003").config["num_hidden_layers"] == 3
    certified = Subject(whole.folder, saved / "step-000003", tmp_path).plain
    assert len(certified.model.stack.blocks) == 3
    assert whole.folder.best().name > "step-000004"
    names = ("model", "optimizer", "ema")
    last = {name: (whole.folder.newest() / f"{name}.safetensors").read_bytes() for name in names}
    for step in (2, 3):
        again = tiny.run(tmp_path, *STAGES, resume=saved / f"step-{step:06d}")
        assert again.progress.step == 6
        for name, content in last.items():
            file = again.folder.newest() / f"{name}.safetensors"
            assert file.read_bytes() == content, (step, name)


def test_a_signal_in_the_step_before_a_growth_stops_the_run(tmp_path, monkeypatch):
    """Resumed, it grows, even if so many evaluations were no better that it would stop early."""
    steps = iter(range(1, 9))

    class Signals(loop.StopSignals):
        name = property(lambda self: "SIGINT" if next(steps) == 2 else None, lambda *_: None)

    worse = [each.replace("eval.every=3", "eval.every=1") for each in STAGES]
    worse.append("optim.learning_rate=9.0")
    with eager(), monkeypatch.context() as patch:
        patch.setattr(loop, "StopSignals", Signals)
        stopped = tiny.run(tmp_path, *worse)
    assert (stopped.reason, stopped.progress.step) == ("stopped by SIGINT", 2)
    assert stopped.progress.stale_evals == 1
    with eager():
        again = tiny.run(tmp_path, *worse, "eval.patience=1", resume=stopped.folder.path)
    assert again.progress.step > 2


def test_auto_values_are_chosen_anew_for_the_larger_model(tmp_path, monkeypatch):
    resolve, chosen = build_room.resolve_auto, []

    def resolve_auto(recipe, *rest):
        chosen.append((recipe.model.n_layers, recipe.train.recompute))
        return resolve(recipe, *rest)

    monkeypatch.setattr(build_room, "resolve_auto", resolve_auto)
    recipe = tiny.recipe(tmp_path, "grow=[{at=1, n_layers=3}]", "train.recompute='auto'")
    grow_built(build(recipe.stage(0)), recipe, recipe.grow[0])
    assert chosen == [(2, "auto"), (3, "auto")]


def test_moments_of_copied_features_are_those_of_their_gradients(tmp_path):
    """A step before the growth and the same step after it leave equal moments."""
    quiet = ("model.block.dropout=0.0", "model.embed.dropout=0.0", "train.clip={kind='none'}")
    recipe = tiny.recipe(tmp_path, "grow=[{at=1, hidden_dim=40}]", *quiet)
    small = build(recipe.stage(0))
    large = grow_built(small, recipe, recipe.grow[0])
    rows = {"tokens": mx.array(tiny.tokens((4, 17), small.model.vocab_size))}
    for each in (small, large):
        mx.eval(each.step([rows], 0), each.step.state)
    carried = tiny.leaves(
        grow_built(small, recipe, recipe.grow[0]).step.train_state.optimizer.state
    )
    found = [
        (path, np.array(value))
        for path, value in tree_flatten(large.step.train_state.optimizer.state)
        if path.endswith((".m", ".v")) and ".ffn." in path
    ]
    assert len(found) == 2 * 2 * 3
    for path, value in found:
        np.testing.assert_allclose(carried[path], value, rtol=1e-3, atol=1e-8, err_msg=path)


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        ("[{at=1, n_layers=1000000}]", "at step 1: .* more than 10,000 layers"),
        ("[{at=1, hidden_dim=99999999999}]", "more than the largest dimension"),
        ("[{at=2, n_layers=1}]", "doesn't grow the model, which has 2 by then"),
        ("[{at=2, hidden_dim=24}]", "a model only grows"),
        ("[{at=2, n_layers=4}, {at=4, n_layers=3}]", "which has 4 by then"),
        ("[{at=3, n_layers=4}, {at=2, n_layers=5}]", "sort them"),
        ("[{at=9, n_layers=4}]", "never reached"),
        ("[{at=2}]", "nothing grows"),
        ('[{at=2, n_layers=4}] optim={kind="shampoo", learning_rate=0.1}', "can't grow"),
        ('[{at=2, n_layers=4}] adapt={kind="lora"}', "doesn't go with"),
        ('[{at=2, n_layers=4, method="copy"}]', 'one of "identity"'),
    ],
)
def test_stages_that_can_not_be_are_refused(tmp_path, stages, words):
    with pytest.raises(RecipeError, match=words):
        tiny.recipe(tmp_path, *f"grow={stages}".replace("] ", "]\n").split("\n"))


def test_tables_of_a_growing_recipe_are_not_replaced(tmp_path):
    recipe = tiny.recipe(tmp_path, *STAGES)
    with pytest.raises(RecipeError, match="beside \\[\\[grow\\]\\]"):
        recipe.replace(model=recipe.model)
