"""Learning rates by width (μP), and the recipes that can't have them."""

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_map
from train import tiny

from mlx_transformers.core.errors import RecipeError
from mlx_transformers.layers.parameter import parameters_of
from mlx_transformers.optim.adam import Adam, AdamW
from mlx_transformers.optim.lion import Lion

MUP = (
    "model.init={kind='mup', base_dim=8}",
    "optim.base_dim=8",
    "model.head.tied=false",
    "optim.schedule={kind='constant'}",
)


@pytest.mark.parametrize("kind", [AdamW, Adam, Lion])
def test_matrices_move_by_less_in_a_wider_model(tmp_path, kind):
    model = tiny.recipe(tmp_path, *MUP).model.build(64)
    optim = kind(learning_rate=1e-2, base_dim=8)
    before = dict(tree_flatten(model.parameters()))
    optim.build(model, 10).update(model, tree_map(mx.ones_like, model.parameters()))
    after = dict(tree_flatten(model.parameters()))
    roles = {each.path: each.role for each in parameters_of(model)}
    for name, array in after.items():
        moved = np.abs(np.array(array - before[name]))
        wanted = 1e-2 * (8 / 16 if roles[name] == "matrix" else 1)
        np.testing.assert_allclose(moved, wanted, rtol=1e-2, err_msg=name)


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (MUP[:1] + MUP[2:], "optim.base_dim to one number"),
        (MUP[1:], "set model.init.kind = 'mup'"),
        ((*MUP[:2], "model.head.tied=true"), "set model.head.scale = 0.5"),
        ((*MUP, "optim.layer_factor=2.0"), "leave one of them out"),
        ((*MUP[:1], "optim={kind='sgd', learning_rate=0.1}"), "take 'adamw', 'adam' or 'lion'"),
    ],
)
def test_half_of_the_rule_is_refused(tmp_path, sets, words):
    with pytest.raises(RecipeError, match=words):
        tiny.recipe(tmp_path, *sets)
