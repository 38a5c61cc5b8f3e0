"""Rules 1 and 6: `extends`, names of recipes, `from`."""

import pytest

from mlx_transformers.core.errors import RecipeError
from mlx_transformers.recipe.load import chain, find, resolve


def test_a_recipe_is_its_parents_with_the_diff_on_top(write):
    write("llama.toml", 'extends = "base.toml"\n[model.block.mixer]\ntheta = 5e5\n')
    write("mistral.toml", 'extends = "llama.toml"\n[model.block.mixer]\nn_kv_heads = 2\n')
    resolved = resolve("mistral")
    assert resolved.data["model"]["block"]["mixer"] == {
        "kind": "attention",
        "n_heads": 4,
        "window": 128,
        "theta": 5e5,
        "n_kv_heads": 2,
    }
    assert [p.name for p in resolved.chain] == ["base.toml", "llama.toml", "mistral.toml"]
    assert chain("mistral") == resolved.chain


def test_every_value_remembers_the_recipe_that_set_it(write):
    write("families/a.toml", 'extends = "../base.toml"\n[model]\ndim = 32\n')
    resolved = resolve("families/a.toml", ["train.steps=3"])
    assert resolved.origin["model.dim"] == "a.toml"
    assert resolved.origin["model.block.mixer.n_heads"] == "../base.toml"
    assert resolved.origin["train.steps"] == "--set"
    assert resolved.chain[-1] == "--set"
    assert resolved.name == "a"


def test_extends_is_relative_to_the_file_not_to_the_reader(write, tmp_path, monkeypatch):
    write("deep/kid.toml", 'extends = "parent.toml"\n')
    write("deep/parent.toml", "[train]\nsteps = 5\n")
    monkeypatch.chdir("/")
    assert resolve(tmp_path / "deep/kid.toml").data == {"train": {"steps": 5}}


def test_a_loop_is_printed(write):
    write("a.toml", 'extends = "b.toml"')
    write("b.toml", 'extends = "a.toml"')
    with pytest.raises(RecipeError, match=r"circle: a\.toml → b\.toml → a\.toml\."):
        resolve("a")


def test_a_loop_that_starts_above_the_recipe_leaves_the_recipe_out(write):
    write("kid.toml", 'extends = "a.toml"')
    write("a.toml", 'extends = "a.toml"')
    with pytest.raises(RecipeError, match=r"circle: a\.toml → a\.toml\."):
        chain("kid")


def test_a_missing_parent_names_the_child_and_the_nearest_file(write):
    write("kid.toml", 'extends = "bsae.toml"')
    with pytest.raises(RecipeError) as error:
        resolve("kid")
    text = str(error.value)
    assert text.startswith("kid.toml extends 'bsae.toml', but there is no such file in ")
    assert "Did you mean 'base.toml'?" in text


@pytest.mark.parametrize("extends", ['["base.toml"]', "3", "{ a = 1 }"])
def test_a_recipe_has_one_parent(write, extends):
    write("kid.toml", f"extends = {extends}")
    with pytest.raises(RecipeError, match=r"kid\.toml: 'extends' is .* one parent"):
        resolve("kid")


def test_a_bare_name_is_found_here_in_recipes_and_in_their_folders(write, tmp_path):
    write("recipes/one.toml", "")
    write("recipes/seq2seq/two.toml", "")
    assert find("base") == tmp_path / "base.toml"
    assert find("one") == tmp_path / "recipes/one.toml"
    assert find("two") == tmp_path / "recipes/seq2seq/two.toml"
    assert find("seq2seq/two") == tmp_path / "recipes/seq2seq/two.toml"
    assert find(tmp_path / "recipes" / "one") == tmp_path / "recipes/one.toml"


def test_a_name_with_a_dot_in_it_is_a_name(write, tmp_path):
    write("recipes/gpt-3.5.toml", "")
    assert find("gpt-3.5") == tmp_path / "recipes/gpt-3.5.toml"


def test_two_recipes_of_one_name_have_to_be_told_apart(write):
    write("recipes/a/same.toml", "")
    write("recipes/b/same.toml", "")
    with pytest.raises(RecipeError, match=r"Several recipes are called 'same'.*a/same.*b/same"):
        find("same")


@pytest.mark.parametrize("name", ["mistrl_tiny", "mistrl_tiny.toml", "recipes/mistrl_tiny"])
def test_an_unknown_recipe_comes_with_the_nearest(write, name):
    write("recipes/mistral_tiny.toml", "")
    for n in range(30):
        write(f"recipes/unlike_{n}.toml", "")
    with pytest.raises(RecipeError) as error:
        resolve(name)
    assert f"There is no recipe '{name}'. Did you mean 'mistral_tiny" in str(error.value)
    assert str(error.value).count(".toml") <= 7  # five near ones, the name and the suggestion
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("name", ["", "nowhere/at/all"])
def test_what_is_not_a_file_is_no_recipe(write, name):
    write("recipes/one.toml", "")
    with pytest.raises(RecipeError, match="There is no recipe"):
        resolve(name)


@pytest.mark.parametrize("name", [".", "recipes"])
def test_a_folder_is_no_recipe_and_its_recipes_are_named(write, name):
    write(f"{name}/one.toml", "")
    with pytest.raises(RecipeError, match=r"is a folder, not a recipe\. There are: .*one\.toml"):
        resolve(name)


def test_a_recipe_of_the_project_is_found_as_the_readme_writes_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resolve("recipes/mistral_tiny.toml").name == "mistral_tiny"


def test_a_syntax_error_shows_the_file_the_line_and_its_text(write):
    write("bad.toml", '[model]\nkind = "decoder"\ndim : 64\n')
    with pytest.raises(RecipeError) as error:
        resolve("bad")
    text = str(error.value)
    assert text.startswith("bad.toml, line 3: Expected '='")
    assert "\n    dim : 64\n        ^\n" in text


@pytest.mark.parametrize("text", ["[model", "a = [1,\n", 'a = "x', "a = 1\na = 2", "= 1", "a ="])
def test_every_syntax_error_is_a_recipe_error(write, text):
    write("bad.toml", text)
    with pytest.raises(RecipeError, match=r"bad\.toml, line \d"):
        resolve("bad")


def test_a_file_that_is_not_utf_8_says_where(write, tmp_path):
    (tmp_path / "latin.toml").write_bytes('name = "é"'.encode("latin-1"))
    with pytest.raises(RecipeError, match=r"latin\.toml isn't UTF-8 text \(byte 8 is 0xe9\)"):
        resolve("latin")


def test_a_byte_order_mark_and_windows_lines_are_read(write, tmp_path):
    (tmp_path / "bom.toml").write_bytes(b"\xef\xbb\xbf[train]\r\nsteps = 1\r\n")
    assert resolve("bom").data == {"train": {"steps": 1}}


def test_from_brings_in_a_model_and_the_rest_is_a_diff_on_it(write):
    write("big.toml", 'extends = "base.toml"\n[model]\ndim = 512\n')
    write("kid.toml", 'extends = "base.toml"\n[teacher]\nfrom = "big.toml"\nblock.dropout = 0.5\n')
    resolved = resolve("kid")
    teacher = resolved.data["teacher"]
    assert teacher["dim"] == 512
    assert teacher["block"]["dropout"] == 0.5
    assert teacher["block"]["mixer"] == resolved.data["model"]["block"]["mixer"]
    assert "from" not in teacher
    assert resolved.data["model"]["dim"] == 64
    assert resolved.origin["teacher.dim"] == "big.toml"
    assert resolved.origin["teacher.block.dropout"] == "kid.toml"
    assert resolved.origin["teacher.block.mixer.window"] == "base.toml"


def test_from_obeys_the_unset_and_kinds_of_the_other_chain(write):
    write(
        "big.toml",
        'extends = "base.toml"\nunset = ["model.block.mixer.window", "train.betas"]\n'
        '[model.block.norm]\nkind = "layer"\n',
    )
    write("kid.toml", '[teacher]\nfrom = "big.toml"\n')
    block = resolve("kid").data["teacher"]["block"]
    assert block == {"mixer": {"kind": "attention", "n_heads": 4}, "norm": {"kind": "layer"}}


def test_from_in_a_child_replaces_what_the_parent_took(write):
    write("rich.toml", 'extends = "base.toml"\n[model.block]\ndropout = 0.1\n')
    write("parent.toml", '[teacher]\nfrom = "rich.toml"\n')
    write("kid.toml", 'extends = "parent.toml"\n[teacher]\nfrom = "base.toml"\n')
    assert "dropout" not in resolve("kid").data["teacher"]["block"]


def test_what_from_brought_can_be_unset_in_the_same_recipe(write):
    text = 'unset = ["teacher.block.mixer.window"]\n[teacher]\nfrom = "base.toml"\n'
    write("kid.toml", text)
    assert "window" not in resolve("kid").data["teacher"]["block"]["mixer"]


def test_from_by_set_is_found_by_name(write):
    write("recipes/big.toml", '[model]\nkind = "decoder"\ndim = 9\n')
    resolved = resolve("base", ["teacher.from=big", "teacher.dim=10"])
    assert resolved.data["teacher"] == {"kind": "decoder", "dim": 10}
    assert resolved.origin["teacher.kind"] == "recipes/big.toml"


def test_a_recipe_can_learn_from_its_own_model(write):
    write("self.toml", 'extends = "base.toml"\n[teacher]\nfrom = "self.toml"\ndim = 8\n')
    assert resolve("self").data["teacher"]["dim"] == 8


def test_a_circle_of_models_is_printed(write):
    write("a.toml", '[model.language]\nfrom = "b.toml"\n')
    write("b.toml", '[model.language]\nfrom = "a.toml"\n')
    with pytest.raises(RecipeError, match=r"circle: a\.toml → b\.toml → a\.toml"):
        resolve("a")
    write("c.toml", '[teacher]\nfrom = "a.toml"\n')
    with pytest.raises(RecipeError, match=r"circle: a\.toml → b\.toml → a\.toml"):
        resolve("c")


def test_from_names_what_is_wrong_with_it(write):
    write("headless.toml", "[train]\nsteps = 1\n")
    cases = {
        '[teacher]\nfrom = "bas.toml"': r"\[teacher\] of kid\.toml takes its model from 'bas\.toml'"
        r", but there is no such file .* Did you mean 'base\.toml'\?",
        '[teacher]\nfrom = "headless.toml"': r"headless\.toml, which has no \[model\]",
        "[teacher]\nfrom = 3": r"\[teacher\] of kid\.toml: 'from' must be the file name",
        'from = "base.toml"': r"kid\.toml: 'from' can't stand at the top .* 'extends'",
    }
    for text, message in cases.items():
        write("kid.toml", text)
        with pytest.raises(RecipeError, match=message):
            resolve("kid")
