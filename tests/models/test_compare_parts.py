"""`tools/compare_parts.py` writes recipes that build, of equal parameters."""

from pathlib import Path

import pytest

from mlx_transformers.assembly.recipe import load_recipe
from mlx_transformers.layers.counts import count


@pytest.mark.parametrize("part", ["activations", "norms", "placements"])
def test_every_choice_is_a_recipe_of_equal_size(load_tool, part: str, tmp_path: Path) -> None:
    files = load_tool("compare_parts").write(part, tmp_path)
    sizes = {path.stem: count(load_recipe(path).model.build(2048)).total for path in files}
    assert len(sizes) >= 5
    assert max(sizes.values()) < 1.01 * min(sizes.values())
