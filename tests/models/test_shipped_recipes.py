"""Every recipe in the checkout resolves, types and builds."""

from pathlib import Path

import pytest

from mlx_transformers.assembly.recipe import load_recipe
from mlx_transformers.layers.counts import count
from mlx_transformers.recipe.load import chain
from mlx_transformers.recipe.slot import KINDS

RECIPES = Path(__file__).parents[2] / "recipes"
FILES = sorted(RECIPES.rglob("*.toml"))
RUNGS = ("base", "gpt2", "llama", "mistral", "mixtral")
SIZES = {"tiny": 1.05e6, "small": 10e6, "base": 122e6}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(RECIPES)))
def test_a_shipped_recipe_builds(path: Path) -> None:
    recipe = load_recipe(path)
    vocab_size = getattr(recipe.data.tokenizer, "vocab_size", None) or 256
    assert count(recipe.model.build(vocab_size)).total > 0  # never evaluated: nothing is computed


@pytest.mark.parametrize("size", SIZES)
def test_the_rungs_of_a_size_form_one_chain_of_equal_active_parameters(size: str) -> None:
    names = [path.stem for path in chain(RECIPES / f"mixtral_{size}.toml")]
    rungs = [f"{rung}_{size}" for rung in RUNGS]
    assert names[-len(rungs) :] == rungs
    for rung in rungs:
        recipe = load_recipe(RECIPES / f"{rung}.toml")
        counts = count(recipe.model.build(recipe.data.tokenizer.vocab_size))
        assert counts.active == pytest.approx(SIZES[size], rel=0.05)


@pytest.mark.parametrize("slot", ["objective", "batch"])
def test_everything_that_can_be_learned_has_a_recipe(slot: str) -> None:
    recipes = [load_recipe(path) for path in FILES]
    used = {(r.objective if slot == "objective" else r.data.batch).kind for r in recipes}
    assert used == set(KINDS[slot])
