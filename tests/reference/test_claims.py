"""`tools/claims.py`: its claims can be trained, judged and printed."""

from pathlib import Path

import pytest

from mlx_transformers.assembly.checks import check_model
from mlx_transformers.assembly.recipe import load_recipe


@pytest.fixture
def tool(load_tool):
    return load_tool("claims")


def test_every_run_is_of_a_recipe_that_loads_with_its_settings(tool):
    for recipe, sets in tool.RUNS.values():
        check_model(load_recipe(tool.RECIPES / f"{recipe}.toml", sets))


@pytest.mark.parametrize(
    ("name", "values", "holds"),
    [
        ("mqar", {"attention": 0.99, "linear attention": 0.4}, True),
        ("mqar", {"attention": 0.99, "linear attention": 0.98}, False),
        ("mqar", {"attention": 0.3, "linear attention": 0.1}, False),
        ("retnet", {"llama": 2.5, "retnet": 2.52}, True),
        ("retnet", {"llama": 2.5, "retnet": 2.6}, False),
        ("universal", {"harder half": 2.1, "easier half": 2.0}, True),
        ("flat_decoding", {"first": 2.00, "last": 2.04}, True),
        ("flat_decoding", {"first": 2.00, "last": 4.00}, False),
        ("reformer", {"a reversible layer adds": 0.03, "a residual layer adds": 9.3}, True),
        ("reformer", {"a reversible layer adds": 3.0, "a residual layer adds": 9.3}, False),
    ],
)
def test_a_claim_holds_or_fails_by_its_values(tool, name, values, holds):
    assert tool.CLAIMS[name].holds(values) is holds


def test_a_setting_of_the_command_replaces_that_of_a_run(tool, monkeypatch):
    asked = {}
    monkeypatch.setattr(tool, "load_recipe", lambda path, sets: asked.update(sets=sets))
    monkeypatch.setattr(tool, "train", lambda recipe, **more: asked.update(more) or tool)
    monkeypatch.setattr(tool, "folder", "the run", raising=False)
    assert tool.Seed(3, Path("root"), ("train.steps=7",)).run("mqar attention") == "the run"
    steps = [given for given in asked["sets"] if given.startswith("train.steps")]
    assert (steps, asked["name"]) == (["train.steps=7"], "mqar_attention-seed3")
    assert "train.seed=3" in asked["sets"]


def test_the_table_keeps_claims_that_fail(tool, monkeypatch):
    found = iter([0.99, 0.4, 0.9, 0.5])

    def values(seed):
        return {"attention": next(found), "linear attention": next(found)}

    claim = tool.Claim("says", "paper", "accuracy", values, tool.CLAIMS["mqar"].holds)
    row = tool.row("mqar", claim, [tool.Seed(1, Path()), tool.Seed(2, Path())])
    assert (row["held"], row["values"]["attention"]) == (1, [0.99, 0.9])
    assert "accuracy: attention 0.945 ± 0.572" in tool.table([row])
    assert "1 of 2 seeds |" in tool.table([row])


def test_decoding_is_timed_at_both_ends(tool, monkeypatch):
    for name, tokens in (("WRITTEN", 12), ("EDGE", 4), ("WINDOW", 2)):
        monkeypatch.setattr(tool, name, tokens)
    values = tool.flat_decoding(tool.Seed(1, Path()))
    assert list(values) == ["first 4 tokens", "last 4 of 12 tokens"]
    assert all(0 < ms < 10_000 for ms in values.values())


def test_reversible_layers_save_nothing_and_residual_ones_do(tool, monkeypatch):
    monkeypatch.setattr(tool, "DEPTHS", (2, 4))
    monkeypatch.setattr(tool, "ROW", 256)
    values = tool.depth_memory(tool.Seed(1, Path()))
    assert values["a residual layer adds"] > 0.1
    assert values["a reversible layer adds"] < 0.2 * values["a residual layer adds"]
