"""`mlxt upcycle` and `mlxt grow`: equal outputs where they are promised, and refusals."""

import mlx.core as mx
import pytest
from train import tiny

from mlx_transformers.assembly.recipe import load_recipe
from mlx_transformers.assembly.saved import load
from mlx_transformers.core.errors import MlxtError
from mlx_transformers.verbs.grow import Growth, grow, sources
from mlx_transformers.verbs.train import train
from mlx_transformers.verbs.upcycle import Experts, upcycle


def quiet(text: str) -> None:
    pass


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder of runs with a small dense one, trained for two steps without compilation."""
    folder = tmp_path_factory.mktemp("growth")
    tiny.write(folder, 1200)
    mx.disable_compile()
    try:
        recipe = load_recipe(folder / "tiny.toml", ("train.steps=2", "eval.batches=1"))
        train(recipe, name="dense", root=folder / "runs", say=quiet)
        shared = ("train.steps=1", "eval.batches=1", "model.n_distinct=1")
        recipe = load_recipe(folder / "tiny.toml", shared)
        train(recipe, name="shared", root=folder / "runs", say=quiet)
    finally:
        mx.enable_compile()
    return folder / "runs"


@pytest.mark.parametrize("every", [1, 2])
def test_experts_that_are_copies_compute_the_dense_model(root, every):
    name = f"sparse-{every}"
    folder, found = upcycle("dense", Experts(4, 2, every=every), name=name, root=root, say=quiet)
    assert abs(found.kl) < 1e-5
    assert found.changed == 0.0
    model, _ = load(folder.path)
    experts = [block for block in model.stack.blocks if "experts" in block.ffn]
    assert len(experts) == 2 // every
    stacked = experts[0].ffn.experts.up.weight
    assert bool(mx.array_equal(stacked[0], stacked[3]))


@pytest.mark.parametrize(
    "growth", [Growth(5), Growth(None, 40), Growth(3, 32)], ids=["deep", "wide", "both"]
)
def test_growth_that_promises_it_keeps_the_function(root, growth):
    name = f"grown-{growth.n_layers}-{growth.hidden_dim}"
    folder, found = grow("dense", growth, name=name, root=root, say=quiet)
    assert abs(found.kl) < 1e-5
    model = load_recipe(folder.recipe).model
    assert model.n_layers == (growth.n_layers or 2)
    assert model.block.ffn.hidden_dim == (growth.hidden_dim or 24)


def test_stacks_and_twins_take_their_layers_from_the_source():
    assert sources(2, 5, "stack") == [0, 1, 0, 1, 0]
    assert sources(2, 5, "interpolate") == [0, 0, 0, 1, 1]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda root: upcycle("dense", Experts(4, 5), root=root), "--top-k from 1"),
        (lambda root: upcycle("dense", Experts(4, 1), root=root), "normalize = false"),
        (lambda root: upcycle("dense", Experts(4, every=3), root=root), "take 1 to 2"),
        (lambda root: grow("dense", Growth(2), root=root), "doesn't grow"),
        (lambda root: grow("dense", Growth(None, 16), root=root), "--hidden-dim 16"),
        (lambda root: grow("dense", Growth(), root=root), "Nothing to grow"),
        (lambda root: grow("shared", Growth(4), root=root), "repeats layers with the same"),
    ],
)
def test_what_is_no_growth_is_refused_and_nothing_written(root, make, says):
    before = sorted(root.iterdir())
    with pytest.raises(MlxtError, match=says):
        make(root)
    assert sorted(root.iterdir()) == before
