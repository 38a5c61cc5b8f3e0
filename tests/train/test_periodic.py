"""The training step with optimizers that need more than a gradient."""

import shutil

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_map

from mlx_transformers.core.context import Context
from mlx_transformers.core.errors import RecipeError
from mlx_transformers.optim.periodic import groups_of, hutchinson, state_at
from mlx_transformers.runs.checkpoint import load
from mlx_transformers.runs.weights import run_weights

from . import tiny

PLAIN = ("model.embed.dropout=0.0", "model.block.dropout=0.0")


def optim(kind, **fields):
    rest = "".join(f", {name}={value}" for name, value in fields.items())
    return f'optim={{kind="{kind}", learning_rate=0.01{rest}}}'


@pytest.mark.parametrize(("kind", "fields"), [("sophia_h", {"every": 2}), ("schedule_free", {})])
def test_a_resumed_run_is_bit_for_bit_the_whole_one(tmp_path, monkeypatch, kind, fields):
    """Steps of estimates and refreshes depend on their number alone."""
    mx.disable_compile()
    try:
        sets = (optim(kind, **fields), "checkpoint.every=3", "train.steps=5")
        whole = tiny.run(tmp_path, *sets, name="whole")
        tiny.run(tmp_path, *sets, name="cut")
        cut = tmp_path / "runs" / "cut"
        for folder in (cut / "checkpoints").glob("*5"):
            shutil.rmtree(folder)
        resumed = tiny.run(tmp_path, *sets, resume=cut)
    finally:
        mx.enable_compile()
    a, b = (load(r.folder.newest())[0] for r in (whole, resumed))
    assert tiny.same(a["model"], b["model"])
    assert tiny.same(a["optimizer"], b["optimizer"])


def test_hutchinsons_estimate_is_the_curvature_of_the_loss(tmp_path):
    """Along the direction drawn: the sum of u · (H u) is the second difference of the loss."""
    built = tiny.built(tmp_path, *PLAIN, optim("sophia_h"))
    tokens = mx.array(tiny.tokens((4, 17), built.tokenizer.vocab_size))
    key, shared = mx.random.key(0), mx.random.key(7)
    params = built.model.trainable_parameters()
    sums = built.step.curvature._hessian({"tokens": tokens}, key, shared)
    found = sum(leaf.sum() for leaf in tiny.leaves(sums["sums"]).values())
    u = hutchinson(params, shared)

    def loss(at):
        moved = tree_map(lambda p, d: p + at * d, params, u)
        return float(built.step.loss(moved, {"tokens": tokens}, Context(key=key)).total)

    h = 2e-3
    assert found == pytest.approx((loss(h) - 2 * loss(0.0) + loss(-h)) / h**2, rel=0.05)


def test_drawn_labels_give_a_positive_curvature(tmp_path):
    built = tiny.built(tmp_path, *PLAIN, optim("sophia_g", every=1))
    tokens = mx.array(tiny.tokens((4, 17), built.tokenizer.vocab_size))
    built.step.curvature.estimate({"tokens": tokens}, mx.random.key(0), mx.random.key(1))
    [part] = groups_of(built.step.train_state.optimizer)
    h = np.array(state_at(part, "embed.table.weight")["h"])
    assert (h >= 0).all()
    assert h.max() > 0


def test_a_schedule_free_run_is_used_by_its_average(tmp_path):
    result = tiny.run(tmp_path, optim("schedule_free"), "train.steps=3")
    saved = result.folder.newest()
    trained = load(saved)[0]["model"]
    assert not tiny.same(run_weights(saved, ema=True), trained)


@pytest.mark.parametrize(
    ("sets", "says"),
    [
        ((optim("soap"), "train.shard_optimizer=true"), "train.shard_optimizer"),
        ((optim("schedule_free"), "train.ema=0.9"), "remove train.ema"),
    ],
)
def test_what_an_optimizer_can_t_be_given_is_refused(tmp_path, sets, says):
    with pytest.raises(RecipeError, match=says):
        tiny.recipe(tmp_path, *sets)
