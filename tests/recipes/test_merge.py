"""Rules 2 to 5: how tables merge, kinds replace, `unset` removes and blocks expand."""

import copy

import pytest

from mlx_transformers.core.errors import RecipeError
from mlx_transformers.recipe.load import resolve
from mlx_transformers.recipe.merge import dotted, expand, keys, merge, removals
from mlx_transformers.recipe.show import to_toml


def test_tables_merge_and_scalars_and_lists_replace():
    parent = {"a": {"x": 1, "y": [1, 2, 3]}, "b": 2}
    child = {"a": {"y": [4], "z": {"deep": True}}, "c": 3}
    assert merge(parent, child) == {
        "a": {"x": 1, "y": [4], "z": {"deep": True}},
        "b": 2,
        "c": 3,
    }


def test_a_table_replaces_a_scalar_and_a_scalar_a_table():
    assert merge({"a": 1}, {"a": {"b": 2}}) == {"a": {"b": 2}}
    assert merge({"a": {"b": 2}}, {"a": 1}) == {"a": 1}


def test_merging_changes_neither_side():
    parent = {"a": {"x": 1, "n": {"kind": "p", "q": 1}}, "blocks": {"l": {"x": 1}}, "block": {}}
    child = {"a": {"y": 2, "n": {"kind": "r"}}, "blocks": {"l": {"x": 2}}}
    before = copy.deepcopy((parent, child))
    merge(parent, child)
    assert (parent, child) == before


def test_a_diff_of_nothing_changes_nothing_and_merging_associates_without_kinds():
    a, b, c = {"x": {"p": 1, "q": 2}}, {"x": {"q": 3}, "y": 1}, {"x": {"r": 4}, "y": 2}
    assert merge(a, {}) == a == merge({}, a)
    assert merge(merge(a, b), c) == merge(a, merge(b, c))


def test_a_changed_kind_replaces_the_table_whole():
    parent = {"norm": {"kind": "rms", "eps": 1e-6, "inner": {"a": 1}}}
    assert merge(parent, {"norm": {"kind": "layer"}}) == {"norm": {"kind": "layer"}}
    assert merge(parent, {"norm": {"kind": "layer", "bias": False}}) == {
        "norm": {"kind": "layer", "bias": False}
    }


def test_a_kind_that_stays_or_is_left_out_merges():
    parent = {"norm": {"kind": "rms", "eps": 1e-6}}
    both = {"norm": {"kind": "rms", "eps": 1e-6, "scale": 2}}
    assert merge(parent, {"norm": {"kind": "rms", "scale": 2}}) == both
    assert merge(parent, {"norm": {"scale": 2}}) == both
    assert merge({"norm": {"eps": 1e-6}}, {"norm": {"kind": "rms"}}) == {
        "norm": {"eps": 1e-6, "kind": "rms"}
    }


def test_a_changed_kind_is_seen_through_a_chain_of_files(write):
    write("kid.toml", 'extends = "base.toml"\n[model.block.mixer]\nkind = "retention"\n')
    assert resolve("kid").data["model"]["block"]["mixer"] == {"kind": "retention"}


def test_unset_removes_a_key_or_a_table(write):
    write("kid.toml", 'extends = "base.toml"\nunset = ["model.block.mixer.window", "train"]\n')
    data = resolve("kid").data
    assert data["model"]["block"]["mixer"] == {"kind": "attention", "n_heads": 4}
    assert "train" not in data
    assert "unset" not in data


def test_unset_comes_before_the_diff_so_a_table_can_be_written_anew(write):
    write("kid.toml", 'extends = "base.toml"\nunset = ["train"]\n[train]\ndtype = "bfloat16"\n')
    assert resolve("kid").data["train"] == {"dtype": "bfloat16"}


def test_a_set_can_unset(write):
    assert "train" not in resolve("base", ['unset=["train"]']).data


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("model.block.mixer.windw", "Did you mean 'model.block.mixer.window'?"),
        ("model.zzzzzzzzzzzzzzzzzzzzzz", "[model] has: kind, dim, block."),
        ("qqq", "The recipe has: model, train."),
        ("train.steps.deeper.than.that.is.nothing", "[train.steps] has: no keys."),
    ],
)
def test_unsetting_what_is_not_there_names_the_nearest(write, path, hint):
    write("kid.toml", f'extends = "base.toml"\nunset = ["{path}"]\n')
    with pytest.raises(RecipeError) as error:
        resolve("kid")
    text = str(error.value)
    assert text == f"kid.toml: 'unset' names '{path}', which isn't inherited. {hint}"


def test_unsetting_twice_is_an_error(write):
    write("a.toml", 'extends = "base.toml"\nunset = ["train.steps"]\n')
    write("b.toml", 'extends = "a.toml"\nunset = ["train.steps"]\n')
    with pytest.raises(RecipeError, match=r"b\.toml: 'unset' names 'train\.steps'"):
        resolve("b")


def test_unsetting_what_the_same_recipe_sets_is_an_error(write):
    write("kid.toml", 'unset = ["train.steps"]\n[train]\nsteps = 3\n')
    with pytest.raises(RecipeError, match="which the same recipe sets"):
        resolve("kid")


@pytest.mark.parametrize("unset", ['"train.steps"', "[1]", "3"])
def test_unset_is_a_list_of_paths(write, unset):
    write("kid.toml", f'extends = "base.toml"\nunset = {unset}\n')
    with pytest.raises(RecipeError, match=r"kid\.toml: 'unset' must be a list of paths"):
        resolve("kid")


def test_unset_deeper_than_the_top_is_an_ordinary_key(write):
    write("kid.toml", '[train]\nunset = ["x"]\n')
    assert resolve("kid").data == {"train": {"unset": ["x"]}}


BLOCKS = """
extends = "base.toml"
[model]
pattern = ["local", "global"]
[model.blocks.local.mixer]
window = 16
[model.blocks.global]
"""


def test_a_named_block_is_a_diff_against_block(write):
    write("kid.toml", BLOCKS)
    resolved = resolve("kid")
    model = resolved.data["model"]
    assert model["blocks"]["global"] == model["block"]
    assert model["blocks"]["local"] == merge(model["block"], {"mixer": {"window": 16}})
    assert resolved.origin["model.blocks.local.mixer.window"] == "kid.toml"
    assert resolved.origin["model.blocks.local.mixer.n_heads"] == "base.toml"


def test_blocks_follow_a_later_change_of_block(write):
    write("mid.toml", BLOCKS)
    write("kid.toml", 'extends = "mid.toml"\n[model.block.mixer]\nn_heads = 8\n')
    blocks = resolve("kid").data["model"]["blocks"]
    assert [blocks[name]["mixer"]["n_heads"] for name in ("local", "global")] == [8, 8]


def test_a_named_block_can_be_of_another_kind(write):
    write("kid.toml", BLOCKS + '[model.blocks.global.mixer]\nkind = "retention"\n')
    assert resolve("kid").data["model"]["blocks"]["global"]["mixer"] == {"kind": "retention"}


def test_a_child_that_changes_the_kind_of_a_named_block_drops_the_old_diff(write):
    write("mid.toml", BLOCKS)
    write("kid.toml", 'extends = "mid.toml"\n[model.blocks.local.mixer]\nkind = "retention"\n')
    assert resolve("kid").data["model"]["blocks"]["local"]["mixer"] == {"kind": "retention"}


def test_a_child_that_repeats_the_kind_of_a_named_block_keeps_the_old_diff(write):
    write("mid.toml", BLOCKS)
    write("kid.toml", 'extends = "mid.toml"\n[model.blocks.local.mixer]\nkind = "attention"\n')
    assert resolve("kid").data["model"]["blocks"]["local"]["mixer"]["window"] == 16


def test_a_named_block_can_lose_what_block_has(write):
    write("mid.toml", BLOCKS)
    write("kid.toml", 'extends = "mid.toml"\nunset = ["model.blocks.global.mixer.window"]\n')
    model = resolve("kid").data["model"]
    assert "window" not in model["blocks"]["global"]["mixer"]
    assert model["blocks"]["local"]["mixer"]["window"] == 16
    assert model["block"]["mixer"]["window"] == 128
    write("again.toml", 'extends = "kid.toml"\nunset = ["model.blocks.global.mixer.window"]\n')
    with pytest.raises(RecipeError, match="isn't inherited"):
        resolve("again")
    write("back.toml", 'extends = "kid.toml"\n[model.blocks.global.mixer]\nwindow = 3\n')
    assert resolve("back").data["model"]["blocks"]["global"]["mixer"]["window"] == 3


def test_unsetting_the_diff_of_a_named_block_gives_back_what_block_has(write):
    write("mid.toml", BLOCKS)
    write("kid.toml", 'extends = "mid.toml"\nunset = ["model.blocks.local.mixer.window"]\n')
    assert resolve("kid").data["model"]["blocks"]["local"]["mixer"]["window"] == 128


def test_blocks_expand_wherever_they_are_and_only_once():
    table = {"a": {"block": {"x": 1, "y": 2}, "blocks": {"n": {"x": 3}}}}
    once = expand(table)
    assert once["a"]["blocks"] == {"n": {"x": 3, "y": 2}}
    assert expand(once) == once
    assert table["a"]["blocks"] == {"n": {"x": 3}}


def test_a_resolved_recipe_is_a_recipe_that_resolves_to_itself(write):
    write("mid.toml", BLOCKS)
    text = (
        'extends = "mid.toml"\nunset = ["model.blocks.global.mixer.window", '
        '"model.blocks.global.norm"]\n[teacher]\nfrom = "mid.toml"\n'
    )
    write("kid.toml", text)
    resolved = resolve("kid", ["model.blocks.odd.mixer.kind=retention", "train.name=a b"])
    gone = ["model.blocks.global.mixer.window", "model.blocks.global.norm"]
    assert removals(resolved.data) == gone
    write("run/recipe.toml", to_toml(resolved.data, resolved.origin))
    assert resolve("run/recipe.toml").data == resolved.data


@pytest.mark.parametrize("path", [("a",), ("a", "b-c_1"), ("x.y", "*"), ("", 'q"\\\n\té', "1")])
def test_dotted_paths_read_back(path):
    assert keys(dotted(path)) == path


@pytest.mark.parametrize("text", ["", ".", "a..b", "a b", "a=b", "a.", "a\nb", "[a]", "a # b"])
def test_what_is_no_path_is_an_error(text):
    with pytest.raises(RecipeError, match="is not a path"):
        keys(text)
