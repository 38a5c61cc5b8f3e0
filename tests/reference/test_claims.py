"""`tools/claims.py`: its claims can be trained, judged and printed."""

import pytest

from mlx_transformers.assembly.checks import check_model
from mlx_transformers.assembly.recipe import load_recipe


@pytest.fixture
def tool(load_tool):
    return load_tool("claims")


def test_every_claim_is_of_recipes_that_load_with_its_settings(tool):
    for claim in tool.CLAIMS.values():
        assert claim.metric in tool.METRICS
        for recipe, sets in claim.runs.values():
            check_model(load_recipe(tool.RECIPES / f"{recipe}.toml", sets))


@pytest.mark.parametrize(
    ("name", "values", "holds"),
    [
        ("mqar", {"attention": 0.99, "linear attention": 0.4}, True),
        ("mqar", {"attention": 0.99, "linear attention": 0.98}, False),
        ("mqar", {"attention": 0.3, "linear attention": 0.1}, False),
        ("retnet", {"llama": 2.5, "retnet": 2.52}, True),
        ("retnet", {"llama": 2.5, "retnet": 2.6}, False),
    ],
)
def test_a_claim_holds_or_fails_by_its_values(tool, name, values, holds):
    assert tool.CLAIMS[name].holds(values) is holds


def test_the_table_keeps_claims_that_fail(tool, monkeypatch):
    found = iter([0.99, 0.4, 0.9, 0.5])
    monkeypatch.setattr(tool, "value", lambda *arguments: next(found))
    row = tool.row("mqar", tool.CLAIMS["mqar"], [1, 2], [], None)
    assert (row["held"], row["values"]["attention"]) == (1, [0.99, 0.9])
    assert "accuracy: attention 0.945 ± 0.572" in tool.table([row])
    assert "1 of 2 seeds |" in tool.table([row])
