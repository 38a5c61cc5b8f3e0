"""Optimizers with work between updates: curvature, preconditioners, and averages of iterates."""

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as mlx_optim
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mlx_transformers.optim.lamb import Lamb
from mlx_transformers.optim.periodic import refresh, update_hessian
from mlx_transformers.optim.schedule_free import AveragedAdam, ScheduleFree
from mlx_transformers.optim.schedules import OneCycle, Steps
from mlx_transformers.optim.shampoo import Shampoo, Soap, inverse_fourth_root
from mlx_transformers.optim.sophia import SophiaH


def constant(step):
    return mx.array(0.1)


def test_curvature_reaches_the_group_that_owns_each_parameter():
    kinds = [SophiaH(learning_rate=0.1), SophiaH(learning_rate=0.1, betas=(0.9, 0.5))]
    groups = [kind.group(constant, 0.0) for kind in kinds]
    both = mlx_optim.MultiOptimizer(groups, [lambda path, _: path == "a"])
    params = {"a": mx.ones(2), "layers": [{"b": mx.ones(2)}]}
    both.init(params)
    update_hessian(both, {"a": mx.full(2, 4.0), "layers": [{"b": mx.full(2, 6.0)}]})
    assert np.allclose(groups[0].state["a"]["h"], 0.04)
    assert np.allclose(groups[1].state["layers"][0]["b"]["h"], 3.0)


def test_a_trust_ratio_scales_an_update_to_its_array():
    lamb = Lamb(learning_rate=0.1, largest_norm=None).group(constant, 0.0)
    w = mx.array([[3.0, 4.0]])
    lamb.init({"w": w})
    new = lamb.apply_gradients({"w": mx.array([[1.0, -2.0]])}, {"w": w})["w"]
    assert float(mx.linalg.norm(new - w)) == pytest.approx(0.1 * 5.0, rel=1e-5)


def test_an_inverse_root_undoes_its_matrix():
    x = mx.random.normal((5, 5), key=mx.random.key(1))
    matrix = x @ x.T + 0.1 * mx.eye(5)
    root = inverse_fourth_root(matrix)
    assert np.allclose(root @ root @ root @ root @ matrix, np.eye(5), atol=1e-3)


@pytest.mark.parametrize("kind", [Soap(learning_rate=0.1), Shampoo(learning_rate=0.1, every=2)])
def test_preconditioned_updates_descend_where_one_direction_is_steep(kind):
    """A quadratic whose curvatures differ a thousandfold, in coordinates of its own."""
    turn = mx.linalg.qr(mx.random.normal((4, 4), key=mx.random.key(0)), stream=mx.cpu)[0]
    scale = mx.array([1.0, 10.0, 100.0, 1000.0])

    def loss(w):
        return 0.5 * (scale[:, None] * mx.square(turn.T @ w)).sum()

    w = mx.random.normal((4, 4), key=mx.random.key(3))
    optimizer = kind.group(lambda s: 1.0 / (1 + s / 10), 0.0)
    optimizer.init({"w": w})
    start = float(loss(w))
    for step in range(60):
        w = optimizer.apply_gradients({"w": mx.grad(loss)(w)}, {"w": w})["w"]
        if step % 2 == 0:
            refresh(optimizer)
        mx.eval(w, optimizer.state)
    assert float(loss(w)) < 0.005 * start


def test_the_average_of_iterates_is_the_one_the_rule_keeps():
    """x from y and z equals the running average of z, weighted by squared learning rates."""
    kind = ScheduleFree(learning_rate=0.1)
    optimizer: AveragedAdam = kind.group(lambda s: 0.1 * mx.minimum(s + 1.0, 3.0), 0.0)
    y, x, total = mx.array([1.0, -2.0]), mx.array([1.0, -2.0]), 0.0
    for step in range(6):  # the first update makes the state, z equal to y
        rate = 0.1 * min(step + 1.0, 3.0)
        total += rate**2
        y = optimizer.apply_gradients({"w": mx.sin(y)}, {"w": y})["w"]
        z = optimizer.state["w"]["z"]
        x = x + rate**2 / total * (z - x)
        assert np.allclose(z + (y - z) / 0.9, x, atol=1e-5)


def test_the_average_of_iterates_leaves_frozen_parameters_alone():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    model.layers[0].freeze()
    optimizer = ScheduleFree(learning_rate=0.1).group(constant, 0.0)
    start = model.layers[1].weight
    gradients = nn.value_and_grad(model, lambda x: model(x).sum())(mx.ones((1, 2)))[1]
    optimizer.update(model, gradients)
    assert {path for path, _ in tree_flatten(optimizer.state["layers"])} == {
        f"1.{name}.{part}" for name in ("weight", "bias") for part in ("z", "v")
    }
    assert not mx.array_equal(model.layers[1].weight, start)


def test_steps_drop_where_they_are_told_and_a_cycle_ends_at_its_last_update():
    rate = Steps(at=(2, 4), factor=0.5).build(1.0, 6)
    assert [float(rate(mx.array(s))) for s in range(6)] == [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]
    rate = OneCycle(final_fraction=0.01).build(2.0, 10)
    assert float(rate(mx.array(2))) == pytest.approx(2.0)
    assert float(rate(mx.array(9))) == pytest.approx(0.02, rel=1e-5)


def test_state_names_of_new_kinds_are_stable():
    """Checkpoints hold these names."""
    params = {"w": mx.ones((2, 3))}
    names = {}
    for kind in (Soap(learning_rate=0.1), SophiaH(learning_rate=0.1), Lamb(learning_rate=0.1)):
        optimizer = kind.group(constant, 0.0)
        optimizer.init(params)
        names[kind.kind] = sorted(dict(tree_flatten(optimizer.state["w"])))
    assert names == {
        "soap": ["left", "left_basis", "m", "right", "right_basis", "v"],
        "sophia_h": ["h", "m"],
        "lamb": ["m", "v"],
    }
