"""Movement pruning: scores against the paper's formula, masks on their schedule, exact resume."""

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mlx_transformers.assembly.saved import load
from mlx_transformers.compress.training import Prune, Pruner
from mlx_transformers.core.errors import RecipeError
from mlx_transformers.runs import checkpoint as ck

from . import tiny

HARD = "prune={sparsity=0.5, end=0.5, movement={}}"
SETS = ("checkpoint.every=3", "checkpoint.keep=9", "train.steps=8")


def scored(config, steps=24):
    """Weights `W ⊙ M` and masks after each of some steps of plain descent, in NumPy."""
    rng = np.random.default_rng(0)
    weight, score = rng.standard_normal((4, 6)), np.zeros((4, 6))
    mean = square = 0.0
    mask = np.ones((4, 6), bool)
    found = []
    for step in range(steps):
        gradient = rng.standard_normal((4, 6))
        slope = gradient * weight
        if config.movement.penalty:
            sigmoid = 1 / (1 + np.exp(-score))
            slope = slope + config.movement.penalty / 24 * sigmoid * (1 - sigmoid)
        mean, square = 0.9 * mean + 0.1 * slope, 0.999 * square + 0.001 * slope**2
        whitened = np.sqrt(square / (1 - 0.999 ** (step + 1))) + 1e-8
        score = score - config.movement.learning_rate * mean / (1 - 0.9 ** (step + 1)) / whitened
        weight = weight - 0.1 * gradient * mask
        time = min((step / steps) / config.end, 1)
        if config.movement.threshold is None:
            n = int(np.floor(np.float32(config.sparsity * (1 - (1 - time) ** 3)) * 24))
            mask = np.ones(24, bool)
            mask[np.argsort(score, axis=None)[:n]] = False
            mask = mask.reshape(4, 6)
        else:
            mask = 1 / (1 + np.exp(-score)) > config.movement.threshold * (1 - (1 - time) ** 3)
        found.append((gradient, weight * mask, mask))
    return found


@pytest.mark.parametrize(
    "table",
    [
        {"sparsity": 0.5, "end": 0.5, "movement": {"learning_rate": 0.3}},
        {"end": 0.5, "movement": {"learning_rate": 0.9, "threshold": 0.4, "penalty": 3.0}},
    ],
    ids=["hard", "soft"],
)
def test_weights_that_move_towards_zero_go_and_may_return(table):
    config = Prune.model_validate(table)
    masks = Pruner(config, {"w": (4, 6)}).movement()
    params = {"w": mx.array(np.random.default_rng(0).standard_normal((4, 6)), mx.float32)}
    returned = False
    before = np.ones((4, 6), bool)
    for step, (gradient, weights, mask) in enumerate(scored(config)):
        grads = {"w": mx.array(gradient, mx.float32)}
        moved = {"w": params["w"] - 0.1 * masks.masked(grads)["w"]}
        progress = mx.array(step / 24)
        params = masks.settle(params, moved, grads, progress, mx.array(True))
        assert (np.array(masks["masks"]["w"]) == mask).all()
        np.testing.assert_allclose(np.array(params["w"]), weights, atol=1e-5)
        returned |= bool((mask & ~before).any())
        before = mask
    assert 0 < before.mean() < 1
    assert returned
    kept = {part: np.array(masks[part]["w"]) for part in ("scores", "masks", "resting")}
    same = masks.settle(params, params, {"w": mx.full((4, 6), mx.nan)}, progress, mx.array(False))
    assert mx.array_equal(same["w"], params["w"])
    assert all((np.array(masks[part]["w"]) == value).all() for part, value in kept.items())


def test_masks_survive_resume_and_what_is_loaded_is_pruned(tmp_path):
    whole = tiny.run(tmp_path, *SETS, HARD, name="whole")
    again = tiny.run(tmp_path, *SETS, HARD, resume=whole.folder.checkpoints / "step-000003")
    one, two = (ck.load(each.folder.newest())[0] for each in (whole, again))
    for tree in ("model", "sparsity"):
        assert tiny.same(*(dict(tree_flatten(each[tree])) for each in (one, two)))
    masks = dict(tree_flatten(one["sparsity"]["masks"]))
    weights = dict(tree_flatten(load(again.folder.path)[0].parameters()))
    for name, mask in masks.items():
        assert mask.mean().item() == pytest.approx(0.5, abs=1 / mask.size)
        assert not mx.any(weights[name] * (1 - mask)).item()
        resting = dict(tree_flatten(one["sparsity"]["resting"]))[name]
        assert mx.any(resting).item()
        assert not mx.any(resting * mask).item()


def test_frozen_layers_are_left_out_or_refused(tmp_path):
    freeze = 'train.freeze=["stack.blocks.0"]'
    result = tiny.run(tmp_path, *SETS, HARD, freeze)
    masks = ck.load(result.folder.newest())[0]["sparsity"]["masks"]
    names = [name for name, _ in tree_flatten(masks)]
    assert any(".blocks.1." in name for name in names)
    assert not any(".blocks.0." in name for name in names)
    named = 'prune={sparsity=0.5, layers=["stack.blocks.*.ffn.*"]}'
    with pytest.raises(RecipeError, match=r"stack\.blocks\.0\.ffn.*, which is frozen"):
        tiny.run(tmp_path, *SETS, named, freeze, name="named")


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (("prune={sparsity=0.5, n_of_m=[2, 4]}",), "both choose the zeros"),
        (("prune={movement={}}",), "makes no zeros by itself"),
        (("prune={sparsity=0.5, movement={threshold=0.1}}",), "leaves the share of zeros"),
        ((HARD, "train.ema=0.9"), "prune.movement masks single weights"),
    ],
)
def test_scores_without_effect_are_refused(tmp_path, sets, words):
    with pytest.raises(RecipeError, match=words):
        tiny.recipe(tmp_path, *SETS, *sets)
