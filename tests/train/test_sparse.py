"""Dynamic sparse training: densities, what changes and what stays zero, exact resume, refusals."""

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mlx_transformers.assembly.saved import load
from mlx_transformers.core.errors import RecipeError
from mlx_transformers.runs import checkpoint as ck

from . import tiny

SETS = (
    "checkpoint.every=3",
    "checkpoint.keep=9",
    "optim.schedule={kind='constant'}",
    "train.steps=8",
)


def sparse(method, **more):
    keys = {"sparsity": 0.8, "every": 2, "end": 1.0, "fraction": 0.5} | more
    listed = ", ".join(f"{key}={value}" for key, value in keys.items())
    return f'sparse={{method="{method}", {listed}}}'


def masks(path):
    trees, _ = ck.load(path)
    found = dict(tree_flatten(trees["sparsity"]["masks"]))
    return (
        {name: np.array(mask) for name, mask in found.items()},
        dict(tree_flatten(trees["model"])),
        dict(tree_flatten(trees["optimizer"])),
    )


@pytest.mark.parametrize("method", ["rigl", "set"])
def test_connections_change_in_place_and_a_resumed_run_has_the_same(tmp_path, method):
    sets = (*SETS, sparse(method))
    whole = tiny.run(tmp_path, *sets, name="whole")
    first, weights, _ = masks(whole.folder.checkpoints / "step-000003")
    last, weights, moments = masks(whole.folder.newest())
    total = sum(mask.sum() for mask in last.values()) / sum(mask.size for mask in last.values())
    assert abs(total - 0.2) < 0.01
    assert any((first[name] != last[name]).any() for name in last)
    for name, mask in last.items():
        assert mask.sum() == first[name].sum()
        assert (np.array(weights[name])[mask == 0] == 0).all()
        assert np.count_nonzero(np.array(weights[name])) >= 0.95 * mask.sum()
        [held] = [value for path, value in moments.items() if path.endswith(f"{name}.m")]
        assert (np.array(held)[mask == 0] == 0).all()
    again = tiny.run(tmp_path, *sets, resume=whole.folder.checkpoints / "step-000003")
    later, values, _ = masks(again.folder.newest())
    assert tiny.same(later, last)
    assert tiny.same(values, weights)
    model, _ = load(again.folder.path)
    name, mask = next(iter(last.items()))
    assert not mx.any(dict(tree_flatten(model.parameters()))[name] * (1 - mx.array(mask)))


def test_static_connections_stay_and_uniform_ones_are_equally_many(tmp_path):
    built = tiny.built(tmp_path, sparse("static", densities='"uniform"'))
    connections = built.step.train_state.sparsity
    assert not any(connections.due(index) for index in range(6))
    assert {round(mask.mean().item(), 1) for mask in connections.masks.values()} == {0.2}


def test_changes_are_due_every_so_many_steps_until_the_end(tmp_path):
    built = tiny.built(tmp_path, *SETS, sparse("rigl", end=0.5))
    due = [built.step.train_state.sparsity.due(index) for index in range(8)]
    assert due == [False, False, True, False, False, False, False, False]


def test_weights_from_elsewhere_keep_the_largest_and_the_zeros_of_a_sparse_source(tmp_path):
    dense, source, target = (
        tiny.built(tmp_path, f"train.seed={seed}", *sets)
        for seed, sets in ((1, ()), (2, [sparse("static")]), (3, [sparse("static")]))
    )
    state = target.step.train_state
    drawn = {name: mask.sum().item() for name, mask in state.sparsity.masks.items()}
    state.start_from(dense.model.parameters())
    before, after = (tiny.leaves(each.model.parameters()) for each in (dense, target))
    for name, count in drawn.items():
        left = after[name] != 0
        assert left.sum() == count == state.sparsity.masks[name].sum().item()
        assert abs(before[name][left]).min() >= abs(before[name][~left]).max()
    state.start_from(source.model.parameters())
    assert tiny.same(target.model.parameters(), source.model.parameters())


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        ((sparse("rigl", every=8),), "no connection would change"),
        ((sparse("rigl"), "train.ema=0.9"), "an average of the weights"),
        ((sparse("rigl"), "prune={sparsity=0.5}"), "doesn't go with \\[prune\\]"),
        ((sparse("rigl"), 'optim.state="int8"'), "optim.kind = 'adamw' as it is set"),
        ((sparse("rigl", sparsity=1.0),), "less than 1"),
        ((sparse("rigl", layers='["nowhere"]'),), None),
    ],
)
def test_what_masks_can_not_do_is_refused(tmp_path, sets, words):
    if words is None:
        with pytest.raises(RecipeError, match="matches no linear layer"):
            tiny.built(tmp_path, *SETS, *sets)
        return
    with pytest.raises(RecipeError, match=words):
        tiny.recipe(tmp_path, *SETS, *sets)
