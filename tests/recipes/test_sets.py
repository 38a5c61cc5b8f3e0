"""Rule 7: `--set path=value` is the last recipe of the chain."""

import pytest

from mlx_transformers.core.errors import RecipeError
from mlx_transformers.recipe.load import resolve
from mlx_transformers.recipe.merge import bare
from mlx_transformers.recipe.overrides import ALIASES, alias, parse_sets


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("3.0", 3.0),
        ("1e-4", 1e-4),
        ("inf", float("inf")),
        ("true", True),
        ("[1, 2]", [1, 2]),
        ("{ a = 1 }", {"a": 1}),
        ('"3"', "3"),
        ("bfloat16", "bfloat16"),
        ("some/file.toml", "some/file.toml"),
        ("two words", "two words"),
        ("a=b", "a=b"),
        ("1.2.3", "1.2.3"),
        ("1\nb = 2", "1\nb = 2"),
    ],
)
def test_a_value_is_toml_or_else_a_string(text, value):
    [(key, parsed)] = parse_sets([f"k={text}"]).items()
    assert key == "k"
    assert parsed == value
    assert type(parsed) is type(value)


def test_sets_make_one_recipe_that_merges_like_any_other(write):
    sets = ["model.block.norm.kind=layer", "model.block.norm.bias=false", "train.steps=7"]
    resolved = resolve("base", sets)
    assert resolved.data["model"]["block"]["norm"] == {"kind": "layer", "bias": False}
    assert resolved.data["train"] == {"steps": 7, "betas": [0.9, 0.99]}
    assert resolved.origin["model.block.norm.bias"] == "--set"


def test_a_text_may_begin_with_brackets():
    for text in ("[v2]/*.txt", "{old} b.txt", "[a-z]?.txt"):
        assert parse_sets([f"data.path={text}"]) == {"data": {"path": text}}


def test_keys_with_dots_are_quoted():
    assert parse_sets(['optim."*.norm".x = 1']) == {"optim": {"*.norm": {"x": 1}}}


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (["train.steps"], "--set train.steps: write it as path=value, e.g. --set train.steps=200."),
        (["=3"], "write it as path=value"),
        (["a="], "--set a=: no value."),
        (["a..b=3"], "'a..b' is not a path."),
        (["a=[1, 2"], "'[1, 2' starts as a list, table or string of TOML but isn't one"),
        (["a.b=[x]"], """quote it twice: --set 'a.b="TEXT"'."""),
        (["a=1", "a=2"], "--set a=2: 'a' is set twice."),
        (["a=1", "a.b=2"], "--set a.b=2: another --set makes 'a' a value"),
        (["a.b=1", "a=2"], "'a' is set twice"),
        (["extends=x.toml"], "--set: 'extends' can only stand in a recipe file."),
    ],
)
def test_a_set_that_makes_no_sense_says_why(write, sets, message):
    with pytest.raises(RecipeError) as error:
        resolve("base", sets)
    assert message in str(error.value)


def test_aliases_are_spellings_of_set():
    assert alias("batch_size", 4) == "train.batch_size=4"
    assert bare(parse_sets([alias("learning_rate", 3e-4)])) == {"optim": {"learning_rate": 3e-4}}
    assert bare(parse_sets([alias("data", "1 2.txt")])) == {"data": {"path": "1 2.txt"}}
    assert set(ALIASES) == {"steps", "batch_size", "learning_rate", "seed", "data"}


def test_an_error_names_the_option_that_was_typed(write):
    rate = alias("learning_rate", 0, ["train", "base", "--lr=0"])
    assert resolve("base", [rate, "train.seed=1"]).origin["optim.learning_rate"] == "--lr"
    with pytest.raises(RecipeError, match=r"^--steps 5: 'train.steps' is set twice"):
        parse_sets(["train.steps=3", alias("steps", 5)])
