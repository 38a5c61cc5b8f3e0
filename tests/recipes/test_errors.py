"""Rule 8: what is wrong with a recipe is said once, with file, path, nearest name and choices."""

import copy
import random
import re
from typing import Literal

import pytest
from pydantic import create_model, model_validator

from mlx_transformers.core.errors import RecipeError
from mlx_transformers.recipe.config import Config
from mlx_transformers.recipe.load import resolve, resolve_data
from mlx_transformers.recipe.merge import leaves, put
from mlx_transformers.recipe.slot import fill, kind_of
from mlx_transformers.recipe.validate import typed


@pytest.fixture
def complaint(write, toy):
    """What is said about base.toml with a diff in kid.toml."""

    def _complaint(diff: str) -> str:
        write("kid.toml", f'extends = "base.toml"\n{diff}')
        with pytest.raises(RecipeError) as error:
            typed(toy, resolve("kid"))
        return str(error.value)

    return _complaint


def test_a_sound_recipe_is_typed(write, toy):
    recipe = typed(toy, resolve("base"))
    assert recipe.model.block.mixer.n_heads == 4
    assert recipe.model.block.norm.eps == 1e-6
    assert recipe.train.betas == (0.9, 0.99)


@pytest.mark.parametrize(
    ("diff", "said"),
    [
        (
            "[model.block.mixer]\nn_kv_head = 2",
            "kid.toml: [model.block.mixer] (attention) has no key 'n_kv_head' (given 2). "
            "Did you mean 'n_kv_heads'? Allowed: kind, n_heads, n_kv_heads, window, theta, axes.",
        ),
        (
            "[trian]\nsteps = 2",
            "kid.toml: The recipe has no key 'trian' (given a table with steps). "
            "Did you mean 'train'? Allowed: model, teacher, train.",
        ),
        (
            "[model]\nrecompute = 2",
            "kid.toml: [model] (decoder) has no key 'recompute' (given 2). "
            "Did you mean 'train.recompute'? Allowed: kind, dim, pattern, block, blocks.",
        ),
        (
            '[model.block.mixer]\nkind = "atention"',
            "kid.toml: model.block.mixer.kind: Unknown mixer kind 'atention'. "
            "Did you mean 'attention'? Known: attention, retention, wrapped.",
        ),
        (
            "[teacher]\ndim = 3",
            "kid.toml: [teacher] has no kind. Kinds of model: decoder.",
        ),
        (
            'unset = ["model.block.mixer.n_heads"]',
            "base.toml: [model.block.mixer] (attention) lacks 'n_heads' (Query heads): "
            "a whole number at least 1 and at most 64.",
        ),
        (
            'unset = ["model"]',
            "kid.toml: The recipe lacks 'model' (The architecture): "
            "a table whose kind is one of: decoder.",
        ),
        ("[model]\ndim = 1.5", "kid.toml: model.dim must be a whole number, not 1.5."),
        ('[model]\ndim = "64"', 'kid.toml: model.dim must be a whole number, not "64".'),
        ("[model]\ndim = true", "kid.toml: model.dim must be a whole number, not true."),
        ("[train]\nname = 3", "kid.toml: train.name must be a string, not 3."),
        (
            "[model.block.mixer]\nn_heads = 65",
            "kid.toml: model.block.mixer.n_heads must be "
            "a whole number at least 1 and at most 64, not 65.",
        ),
        (
            "[model.block.norm]\neps = 0",
            "kid.toml: model.block.norm.eps must be a number greater than 0, not 0.",
        ),
        (
            '[model.block.norm]\nkind = "layer"\nbias = "yes"',
            'kid.toml: model.block.norm.bias must be true or false, not "yes".',
        ),
        (
            '[train]\ndtype = "bfloat6"',
            'kid.toml: train.dtype must be one of "float32", "bfloat16", not "bfloat6". '
            "Did you mean 'bfloat16'?",
        ),
        (
            '[train]\nrecompute = "som"',
            'kid.toml: train.recompute must be one of "none", "all", '
            'or a list of whole numbers, not "som".',
        ),
        (
            '[train]\nrecompute = [1, "x"]',
            'kid.toml: train.recompute[1] must be a whole number, not "x".',
        ),
        (
            '[train]\nbetas = "x"',
            'kid.toml: train.betas must be a list of numbers, or a number, not "x".',
        ),
        (
            "[train]\nsteps = { a = 1 }",
            "kid.toml: train.steps must be a whole number, not a table with a.",
        ),
        (
            "[model]\nblock = 3",
            "kid.toml: model.block must be a table, not 3.",
        ),
        (
            '[model.block]\nmixer = "attention"',
            "kid.toml: model.block.mixer must be a table whose kind is one of: "
            'attention, retention, wrapped, not "attention".',
        ),
        (
            "[model]\nblocks = 3",
            "kid.toml: model.blocks must be a table of tables, not 3.",
        ),
        (
            '[train]\nextra_norms = [{ kind = "rms" }, { kind = "layer", eps = 2 }]',
            "kid.toml: train.extra_norms[1].eps must be a number greater than 0 and "
            "less than 1, not 2.",
        ),
        (
            "[model.block.mixer]\nn_kv_heads = 3",
            "base.toml: [model.block.mixer]: n_kv_heads = 3 doesn't divide n_heads.",
        ),
        (
            '[model.block.mixer]\nkind = "wrapped"\ninner = { kind = "retention", deca = 1 }',
            "kid.toml: [model.block.mixer.inner] (retention) has no key 'deca' (given 1). "
            "Did you mean 'decay'? Allowed: kind, decay.",
        ),
        (
            "[model.blocks.local.mixer]\nwindw = 3",
            "kid.toml: [model.blocks.local.mixer] (attention) has no key 'windw' (given 3). "
            "Did you mean 'window'? "
            "Allowed: kind, n_heads, n_kv_heads, window, theta, axes.",
        ),
        (
            '[train]\nextra_norms = [{ from = "base.toml" }]',
            "kid.toml: [train.extra_norms[0]] has no kind. A 'from' can't stand in a list. "
            "Kinds of norm: rms, layer.",
        ),
    ],
)
def test_each_problem_is_one_plain_sentence(complaint, diff, said):
    assert complaint(diff) == said


def test_all_problems_come_at_once_each_with_its_recipe(complaint):
    text = complaint('[model]\ndim = "x"\ncolour = 1\n[train]\nsteps = 1.5\n')
    first, *rest = text.split("\n")
    assert first == "3 problems in kid:"
    assert len(rest) == 3
    assert rest[0] == '  kid.toml: model.dim must be a whole number, not "x".'
    assert all(line.startswith("  kid.toml: ") for line in rest)


def test_what_blocks_inherit_is_complained_about_once(complaint):
    text = complaint("[model.block.mixer]\nn_heads = 0\n[model.blocks.a]\n[model.blocks.b]\n")
    assert text.startswith("kid.toml: model.block.mixer.n_heads must be")
    assert "\n" not in text


def test_a_problem_of_the_parent_is_the_parents(write, toy):
    write("parent.toml", 'extends = "base.toml"\n[train]\nsteps = "many"\n')
    write("kid.toml", 'extends = "parent.toml"\n[model]\ndim = 8\n')
    with pytest.raises(RecipeError, match=r"^parent\.toml: train\.steps"):
        typed(toy, resolve("kid"))


def test_a_set_has_the_same_errors(write, toy):
    with pytest.raises(RecipeError) as error:
        typed(toy, resolve("base", ["train.step=3"]))
    assert str(error.value).startswith(
        "--set: [train] has no key 'step' (given 3). Did you mean 'steps'?"
    )


class Pair(Config):
    low: int
    high: int

    @model_validator(mode="after")
    def _ordered(self) -> "Pair":
        if self.low > self.high:
            raise ValueError("pair.low is above pair.high.")
        return self


def test_the_error_of_a_table_is_that_of_the_key_it_names(write):
    write("pair.toml", "[pair]\nlow = 1\nhigh = 2\n")
    with pytest.raises(RecipeError, match=r"^--set: \[pair\]: pair.low is above pair.high.$"):
        typed(create_model("Root", __base__=Config, pair=Pair), resolve("pair", ["pair.high=0"]))


def test_a_number_that_float32_makes_infinite_is_refused(complaint):
    said = complaint("[model.block.norm]\neps = 1e39")
    assert "[model.block.norm.eps]: 1e+39 is beyond the range of float32 (±3.4e+38)" in said


@pytest.mark.parametrize(
    ("held", "value"),
    [
        (list[float], [1.0, -1e39]),
        (tuple[float, ...], [-1e39]),
        (tuple[tuple[float, float], ...], [[0.0, -1e39]]),
        (dict[str, float], {"a": -1e39}),
        (str | dict[str, float] | None, {"a": -1e39}),
    ],
)
def test_numbers_in_lists_and_tables_fit_float32_too(held, value):
    table = create_model("Table", __base__=Config, held=(held, ...))
    with pytest.raises(ValueError, match=re.escape("-1e+39 is beyond the range of float32")):
        table(held=value)


def test_a_long_value_is_cut(toy):
    with pytest.raises(RecipeError) as error:
        typed(toy, resolve_data({"train": {"steps": "x" * 500}}))
    assert len(str(error.value)) < 300


def test_an_unknown_kind_of_a_slot_names_the_nearest():
    with pytest.raises(RecipeError, match=r"Unknown norm kind 'rmss'. Did you mean 'rms'\?"):
        kind_of("norm", "rmss")
    with pytest.raises(RecipeError, match="Unknown nothing kind"):
        kind_of("nothing", "rms")
    assert kind_of("norm", "rms").__name__ == "Rms"


def test_a_kind_is_not_taken_over_by_another_class():
    rms = kind_of("norm", "rms")
    fill("norm", rms)
    with pytest.raises(TypeError, match="has a kind 'rms' already"):
        fill("norm", type("Rms", (rms,), {"__module__": __name__}))


def test_a_slot_that_was_read_is_not_filled(toy):
    class Late(kind_of("norm", "rms")):
        kind: Literal["late"] = "late"

    with pytest.raises(RecipeError):
        typed(toy, resolve_data({}))  # reads the kinds of all slots
    with pytest.raises(RuntimeError, match="'norm' has been read: fill it with Late before"):
        fill("norm", Late)


JUNK = [0, -1, 2.5, True, "", "attention", [], [1, "x"], [[]], {}, {"kind": "layer"}]
JUNK += [{"kind": 3}, {"kind": []}, {"from": "x"}, {"a": {"b": 1}}, [{"kind": "rms"}, 3]]


@pytest.mark.parametrize("seed", range(40))
def test_no_junk_gets_past_or_breaks_the_explanation(seed, toy, write):
    """Any value in any place is either typed or explained, in words that are the recipe's."""
    rng = random.Random(seed)
    data = copy.deepcopy(resolve("base").data)
    data["model"]["blocks"] = {"local": copy.deepcopy(data["model"]["block"])}
    data["train"].update(recompute="none", extra_norms=[{"kind": "rms"}], name="n")
    for _ in range(rng.randint(1, 4)):
        path = rng.choice([path for path, _ in leaves(data)] or [("model",)])
        path = path[: rng.randint(1, len(path))]
        if rng.random() < 0.3:
            path = (*path[:-1], rng.choice(["junk", "kind", "blocks", "list", "int"]))
        data = put(data, path, copy.deepcopy(rng.choice(JUNK)))
    try:
        typed(toy, resolve_data(data, "junk"))
    except RecipeError as error:
        text = str(error)
        assert not re.search(
            r"tagged-union|function-|Input |Literal|\bint\[|tuple\[|pydantic", text
        )
        assert all(": " in line for line in text.splitlines()[1:])
