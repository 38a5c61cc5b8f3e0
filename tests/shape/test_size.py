"""A reader finds any idea in one small file with its own name."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted(p for d in ("mlx_transformers", "tools") for p in (ROOT / d).rglob("*.py"))
VAGUE = {"utils", "util", "common", "misc", "helpers", "helper", "base", "v2", "legacy"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_and_functions_are_small_and_say_what_they_are(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 400, f"{path.name} is long: split it by idea"
    assert path.stem not in VAGUE
    tree = ast.parse(text)
    if text.strip():
        assert ast.get_docstring(tree), f"{path.name} doesn't say what it is"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            size = (node.end_lineno or 0) - node.lineno + 1
            assert size <= 60, f"{path.name}:{node.lineno}: {node.name} has {size} lines"
