"""Pruning while a model trains: averages of the weights."""

import numpy as np
import pytest
from mlx.utils import tree_flatten

from mlx_transformers.core.errors import RecipeError
from mlx_transformers.runs import checkpoint as ck

from . import tiny


def test_an_average_of_pruned_weights_is_zero_where_they_are(tmp_path):
    done = tiny.run(tmp_path, "prune={sparsity=0.5, end=0.5}", "train.ema=0.9")
    trees, _ = ck.load(done.folder.newest())
    weights = dict(tree_flatten(trees["model"]))
    average = dict(tree_flatten(trees["ema"]["average"]))
    name = "stack.blocks.0.mixer.q.weight"
    gone = np.array(weights[name]) == 0
    assert gone.mean() == pytest.approx(0.5, abs=0.02)
    assert not np.array(average[name])[gone].any()
    assert not np.array_equal(average[name], weights[name])


def test_averages_of_an_optimizer_cannot_be_pruned(tmp_path):
    with pytest.raises(RecipeError, match="'schedule_free' is judged by averages"):
        tiny.run(tmp_path, "prune.sparsity=0.5", "optim={kind='schedule_free', learning_rate=0.01}")
