"""Every key of every shipped recipe, defaults included, is what tests/recipes/golden.txt says."""

import difflib
from collections.abc import Callable
from typing import Any

import pytest

from mlx_transformers import load_recipe
from mlx_transformers.data.corpora.table import CORPORA

SHOWN = 60
"""Lines of a difference that a failure shows."""


@pytest.fixture
def toy_kinds() -> None:
    """Keep the kinds of the project: this file reads shipped recipes."""


def sections(text: str) -> dict[str, list[str]]:
    """The lines of each recipe, by its heading."""
    parts = [part.splitlines() for part in text.strip().split("\n\n")]
    return {heading: lines for heading, *lines in parts}


def test_shipped_recipes_resolve_to_the_golden_file(load_tool: Callable[[str], Any]) -> None:
    tool = load_tool("golden_recipes")
    want, have = sections(tool.GOLDEN.read_text(encoding="utf-8")), sections(tool.golden())
    found = []
    for heading in sorted(want.keys() | have.keys()):
        lines = difflib.ndiff(want.get(heading, []), have.get(heading, []))
        changed = [line for line in lines if line[0] in "-+"]
        found += [heading, *changed] if changed or heading not in want.keys() & have.keys() else []
    assert not found, "\n".join(
        [
            "shipped recipes resolve to other values. If that is meant, run "
            "`python tools/golden_recipes.py` and commit the file:",
            *found[:SHOWN],
            *([f"... and {len(found) - SHOWN} lines more"] if len(found) > SHOWN else []),
        ]
    )


def test_every_shipped_recipe_has_a_text_without_a_file_of_the_reader(
    load_tool: Callable[[str], Any],
) -> None:
    """A recipe that begins with a file that nobody has can't be tried."""
    files = sorted(load_tool("golden_recipes").RECIPES.rglob("*.toml"))
    assert files
    for file in files:
        data = load_recipe(file).data
        assert data.corpus in CORPORA, file
        assert (data.path, data.valid_path) == (None, None), file
