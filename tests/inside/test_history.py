"""The lineage of the recipes, and its page in a real browser."""

import re
from pathlib import Path

import pytest
from browser import BROWSER, browse

from mlx_transformers.inside.history import nodes, write_history


def test_each_recipe_names_its_parent_its_paper_and_its_files(tmp_path: Path) -> None:
    found = {node.name: node for node in nodes(tmp_path)}
    mistral = found["mistral_tiny"]
    assert (mistral.parent, mistral.year, mistral.folder) == ("llama_tiny", 2023, "")
    assert "window = 128" in mistral.diff
    assert "llama_tiny" in mistral.effect
    mamba = found["mamba_tiny"]
    places = [(tmp_path / place).resolve() for _, place in mamba.links]
    assert [place.name for place in places] == [
        "mamba_tiny.toml",
        "mamba.py",
        "none.py",
        "state-space.md",
    ]
    assert all(place.is_file() for node in found.values() for _, p in node.links
               for place in [(tmp_path / p).resolve()])  # fmt: skip
    assert not any(node.name.endswith("_base") for node in found.values())


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium here")
def test_a_browser_draws_the_graph(tmp_path: Path) -> None:
    page = write_history(tmp_path / "history.html")
    shown, said = browse(page, "--dump-dom")
    assert said == []
    assert 'data-ready="true"' in shown
    assert re.search(r'extends llama_tiny"[^>]*aria-current="true">mistral<', shown)
