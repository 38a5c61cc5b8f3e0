"""Write tests/recipes/golden.txt: every key of every shipped recipe, defaults included.

    python tools/golden_recipes.py

A recipe without a parent is listed with all its keys, any other with the keys that differ from its
parent's: a changed default shows as one line in each root that has the key, and in no child. Keys
without a value are left out, except where the parent has one (`= none`).
"""

from pathlib import Path
from typing import Any

from mlx_transformers import load_recipe
from mlx_transformers.recipe.load import chain
from mlx_transformers.recipe.show import diff
from mlx_transformers.recipe.toml import toml_value

ROOT = Path(__file__).resolve().parents[1]
RECIPES = ROOT / "recipes"
GOLDEN = ROOT / "tests" / "recipes" / "golden.txt"


def golden() -> str:
    """Return the text of the golden file: a section for each recipe, a line for each key."""
    files = sorted(RECIPES.rglob("*.toml"))
    typed = {path: load_recipe(path) for path in files}
    sections = []
    for path in files:
        parent = next(iter(chain(path)[-2:-1]), None)
        base: Any = {} if parent is None else typed[parent]
        extends = "" if parent is None else f" < {_name(parent)}"
        lines = sorted(_line(key, value) for key, _, value in diff(base, typed[path]))
        sections.append("\n".join([f"[{_name(path)}{extends}]", *lines]))
    return "\n\n".join(sections) + "\n"


def _name(path: Path) -> str:
    return str(path.relative_to(RECIPES).with_suffix(""))


def _line(key: str, value: Any) -> str:
    return f"{key} = {'none' if value is None else toml_value(value)}"


if __name__ == "__main__":
    GOLDEN.write_text(golden(), encoding="utf-8")
    print(f"{GOLDEN.relative_to(ROOT)}: {len(golden().splitlines())} lines")
