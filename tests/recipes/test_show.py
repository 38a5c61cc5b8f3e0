"""Rule 10: what `show` prints, what differs, and recipes written back."""

import datetime
import json
import math
import os
import random
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from mlx_transformers.recipe.load import resolve, resolve_data
from mlx_transformers.recipe.schema import json_schema, reference
from mlx_transformers.recipe.show import DEFAULT, diff, show, to_toml
from mlx_transformers.recipe.validate import typed


def test_show_names_every_key_its_value_and_the_recipe_that_set_it(write, toy):
    write("kid.toml", 'extends = "base.toml"\n[model.blocks.local.mixer]\nwindow = 8\n')
    resolved = resolve("kid", ["train.steps=3"])
    rows = {path: (value, where) for path, value, where in show(resolved, typed(toy, resolved))}
    assert rows["model.dim"] == (64, "base.toml")
    assert rows["model.blocks.local.mixer.window"] == (8, "kid.toml")
    assert rows["model.blocks.local.mixer.n_heads"] == (4, "base.toml")
    assert rows["model.blocks.local.mixer.theta"] == (1e4, DEFAULT)
    assert rows["train.steps"] == (3, "--set")
    assert rows["train.betas"] == ([0.9, 0.99], "base.toml")
    assert rows["train.name"] == (None, DEFAULT)
    assert rows["teacher"] == (None, DEFAULT)
    assert set(resolved.origin) <= set(rows)


def test_diff_lists_the_keys_that_differ(write):
    write("kid.toml", 'extends = "base.toml"\n[model]\ndim = 8\n[model.block.norm]\nkind="layer"\n')
    assert diff(resolve("base"), resolve("kid")) == [
        ("model.dim", 64, 8),
        ("model.block.norm.kind", "rms", "layer"),
        ("model.block.norm.eps", 1e-6, None),
    ]
    assert diff(resolve("kid"), resolve("kid")) == []


def test_diff_of_typed_recipes_sees_defaults(write, toy):
    a, b = resolve("base"), resolve("base", ["train.dtype=bfloat16"])
    assert diff(typed(toy, a), typed(toy, b)) == [("train.dtype", "float32", "bfloat16")]


def test_diff_tells_types_apart_but_not_nan_from_itself():
    rows = diff({"a": 1, "b": 1, "c": math.nan}, {"a": 1.0, "b": True, "c": math.nan})
    assert [path for path, _, _ in rows] == ["a", "b"]


def test_a_written_recipe_says_where_each_value_is_from(write):
    resolved = resolve("base", ["train.steps=3"])
    text = to_toml(resolved.data, resolved.origin)
    assert 'kind = "decoder"  # from base.toml\n' in text
    assert "\n[model.block.mixer]\n" in text
    assert "steps = 3  # from --set\n" in text
    assert "#" not in to_toml(resolved.data)


ODD_STRINGS = [
    "",
    "plain",
    'quote " inside',
    "back\\slash",
    "tab\tnewline\nreturn\r",
    "\x00\x1f\x7f",
    "é→𝔘",
    "'single'",
    "# no comment",
    "[table]",
    "a" * 200,
]
NUMBERS = [0, -1, 2**62, 1e-4, 1e-05, 1e16, -0.0, 0.1, 5e-324, 1.7e308, math.inf, -math.inf]


def _value(rng: random.Random, depth: int):
    choice = rng.randrange(6)
    if choice == 0:
        return rng.choice(ODD_STRINGS)
    if choice == 1:
        return rng.choice([True, False])
    if choice == 2 and depth > 0:
        return [_value(rng, depth - 1) for _ in range(rng.randrange(5))]
    if choice == 3 and depth > 0:
        return _tree(rng, depth - 1)
    return rng.choice(NUMBERS)


def _tree(rng: random.Random, depth: int):
    names = [
        "a",
        "kind",
        "b-1",
        "1",
        "with.dot",
        'q"uote',
        "é",
        "",
        "sp ace",
        "new\nline",
        "x" * 90,
    ]
    return {key: _value(rng, depth) for key in rng.sample(names, rng.randrange(len(names)))}


def _typed_equal(a, b) -> bool:
    if isinstance(a, dict):
        same = isinstance(b, dict) and a.keys() == b.keys()
        return same and all(_typed_equal(a[key], b[key]) for key in a)
    if isinstance(a, list):
        same = isinstance(b, list) and len(a) == len(b)
        return same and all(map(_typed_equal, a, b))
    return type(a) is type(b) and repr(a) == repr(b)


@pytest.mark.parametrize("seed", range(60))
def test_any_tables_written_and_read_back_are_the_same(seed, write):
    data = _tree(random.Random(seed), 4)
    assert _typed_equal(tomllib.loads(to_toml(data)), data)
    resolved = resolve_data(data)
    path = write("again.toml", to_toml(resolved.data, resolved.origin))
    assert _typed_equal(resolve(path).data, data)


def test_nan_dates_and_tuples_are_written_too():
    day = datetime.date(2024, 2, 29)
    back = tomllib.loads(to_toml({"n": math.nan, "d": day, "t": (1, 2)}))
    assert math.isnan(back["n"])
    assert (back["d"], back["t"]) == (day, [1, 2])


def test_none_is_left_out_and_what_toml_cannot_hold_is_an_error():
    assert to_toml({"a": None, "b": {"c": None}}) == "[b]\n"
    with pytest.raises(TypeError, match="can't hold"):
        to_toml({"a": object()})
    with pytest.raises(TypeError, match="can't hold None"):
        to_toml({"a": [None]})


def test_the_typed_recipe_survives_being_written(write, toy):
    write("kid.toml", 'extends = "base.toml"\n[model.block.mixer]\nkind = "retention"\n')
    recipe = typed(toy, resolve("kid"))
    path = write("full.toml", to_toml(recipe.model_dump()))
    assert typed(toy, resolve(path)) == recipe


def test_the_editor_schema_requires_nothing_and_describes_everything(toy):
    schema = json_schema(toy)
    text = json.dumps(schema, allow_nan=False)
    assert '"required"' not in text
    assert '"oneOf"' not in text
    assert {"extends", "unset", "model", "train"} <= set(schema["properties"])
    assert schema["additionalProperties"] is False
    attention = schema["$defs"]["Attention"]["properties"]
    assert attention["n_heads"] == {
        "description": "Query heads.",
        "maximum": 64,
        "minimum": 1,
        "type": "integer",
    }
    assert attention["kind"]["const"] == "attention"
    assert "from" in schema["$defs"]["Decoder"]["properties"]
    assert "from" not in schema["$defs"]["Attention"]["properties"]
    assert "default" not in schema["$defs"]["Retention"]["properties"]["decay"]
    mixers = schema["$defs"]["Block"]["properties"]["mixer"]["anyOf"]
    assert [mixer["$ref"].rsplit("/")[-1] for mixer in mixers] == [
        "Attention",
        "Retention",
        "Wrapped",
    ]


def test_the_reference_has_a_section_for_every_table_slot_and_kind(toy):
    text = reference(toy)
    for heading in ("## `[train]`", "## `[model.block]`", "## Slot `mixer`", "### `retention`"):
        assert f"\n{heading}\n" in text
    assert "Stands in `[model]`, `[teacher]`." in text
    assert "### `attention`\n\nAttention with n_heads heads.\n\n| key |" in text
    assert (
        "| `n_heads` | a whole number at least 1 and at most 64 | required | Query heads. |" in text
    )
    assert "| `window` | a whole number | none | How far back a position sees. |" in text
    assert "| `decay` | a number | `inf` |" in text
    assert '| `norm` | a `norm` | `kind = "rms"` |' in text
    assert "Precision of the \\| forward." in text


def test_reading_recipes_never_loads_mlx():
    folder = Path(__file__).resolve().parents[2] / "mlx_transformers" / "recipe"
    modules = [f"mlx_transformers.recipe.{p.stem}" for p in folder.glob("[a-z]*.py")]
    assert len(modules) >= 9
    code = (
        f"import importlib, sys\nfor name in {modules}: importlib.import_module(name)\n"
        "print([m for m in sys.modules if m == 'mlx' or m.startswith('mlx.')])"
    )
    root = folder.parents[1]
    boost_off = {**os.environ, "MLXT_NO_BOOST": "1"}  # the package itself may ready MLX on Linux
    ran = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=root,
        check=True,
        env=boost_off,
    )
    assert ran.stdout.strip() == "[]"
