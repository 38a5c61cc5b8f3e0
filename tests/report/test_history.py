"""The lineage of the recipes, and its page in a real browser."""

from pathlib import Path

from mlx_transformers.report.history import nodes


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
