"""Rounding and pruning while a model trains: which layers, and averages of the weights."""

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_unflatten

from mlx_transformers.compress.sensitivity import allocate, costs_of
from mlx_transformers.core.errors import RecipeError
from mlx_transformers.ops.packed import Packing, rounded
from mlx_transformers.runs import checkpoint as ck
from mlx_transformers.verbs.prune import Settings, prune

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


def test_the_cost_of_rounding_is_taylors_term_with_fishers_matrix(tmp_path):
    model = tiny.built(tmp_path, "model.dim=32").model
    rows = [mx.random.randint(0, 9, (n, 9)) for n in (2, 1)]
    path, how = "stack.blocks.0.mixer.q", Packing(3, 32)
    weight = dict(tree_flatten(model.parameters()))[f"{path}.weight"]
    move = np.array(rounded(weight, how) - weight, np.float64)

    def loss(tokens):
        logits = model(tokens[:, :-1])
        return nn.losses.cross_entropy(logits, tokens[:, 1:], reduction="sum")

    total = 0.0
    for tokens in [rows[0][:1], rows[0][1:], rows[1]]:
        _, grads = nn.value_and_grad(model, loss)(tokens)
        grad = np.array(dict(tree_flatten(grads))[f"{path}.weight"], np.float64)
        total += (grad**2 * move**2).sum() / 2
    costs = costs_of(model, [path], 32, rows)
    assert costs[path][how] == pytest.approx(total / 24, rel=1e-4)


def test_bits_go_where_they_gain_most_within_the_budget():
    def cost(scale):
        return {Packing(bits, 32): scale * 4.0**-bits for bits in (2, 3, 4)}

    costs, sizes = {"a": cost(100.0), "b": cost(1.0), "c": cost(1e-3)}, dict.fromkeys("abc", 10)
    chosen = allocate(costs, sizes, budget=1 + 3.0)  # scales take a bit
    assert [chosen[path].bits for path in "abc"] == [4, 3, 2]


def test_experts_are_rounded_and_pruned_and_routers_are_not(tmp_path):
    experts = tiny.moe().replace("hidden_dim=16", "hidden_dim=32")
    more = ("quantize={bits=2, group_size=32}", "prune={n_of_m=[2, 4]}")
    built = tiny.built(tmp_path, "model.dim=32", experts, *more)
    names = built.step.loss.rounding.names
    assert names == built.step.projection.shapes.keys()
    expert = "stack.blocks.0.ffn.experts.up.weight"
    assert expert in names
    assert not any("router" in name for name in names)
    weight = dict(tree_flatten(built.model.parameters()))[expert]
    assert weight.shape == (4, 32, 32)
    tree = tree_unflatten([(expert, weight)])
    zeroed = dict(tree_flatten(built.step.projection(tree, tree, mx.array(1.0))))[expert]
    assert (np.array(zeroed != 0).reshape(4, 32, 8, 4).sum(axis=-1) == 2).all()


@pytest.mark.parametrize("method", ["magnitude", "wanda", "sparsegpt"])
def test_experts_are_pruned_by_the_verb_as_far_as_linear_layers(tmp_path, method):
    done = tiny.run(tmp_path, tiny.moe(), "train.steps=1")
    said: list[str] = []
    how = Settings(method, 0.5, anyway=True)
    folder, _ = prune(str(done.folder.path), how, name="p", root=tmp_path, say=said.append)
    trees, _ = ck.load(folder.newest())
    weights = dict(tree_flatten(trees["model"]))
    shares = {name: float(np.mean(np.array(array) == 0)) for name, array in weights.items()}
    assert shares["stack.blocks.1.ffn.experts.down.weight"] == pytest.approx(0.5, abs=0.03)
    assert shares["stack.blocks.1.mixer.v.weight"] == pytest.approx(0.5, abs=0.03)
    assert shares["stack.blocks.1.ffn.router.gate.weight"] == 0
    assert any("Experts are pruned by magnitude" in each for each in said) == (
        method != "magnitude"
    )
