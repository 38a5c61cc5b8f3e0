"""What `pip install` brings: the package, the command, and every recipe."""

import zipfile
from pathlib import Path

import pytest

builder = pytest.importorskip("hatchling.builders.wheel")
ROOT = Path(__file__).parents[2]


def test_the_wheel_carries_every_module_and_every_recipe(tmp_path: Path) -> None:
    (wheel,) = builder.WheelBuilder(str(ROOT)).build(directory=str(tmp_path))
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {str(p.relative_to(ROOT)) for p in (ROOT / "mlx_transformers").rglob("*.py")}
    recipes = {
        f"mlx_transformers/recipes_data/{path.relative_to(ROOT / 'recipes')}"
        for path in (ROOT / "recipes").rglob("*.toml")
    }
    assert modules | recipes <= names
    foreign = {n for n in names if not n.startswith("mlx_transformers/") and ".dist-info/" not in n}
    assert not foreign
