"""A reader finds any idea in one small file with its own name."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILES = sorted(p for d in ("mlx_transformers", "tools") for p in (ROOT / d).rglob("*.py"))
VAGUE = {"utils", "util", "common", "misc", "helpers", "helper", "base", "v2", "legacy"}


def faults(path: Path) -> Iterator[str]:
    text = path.read_text(encoding="utf-8")
    if text.count("\n") > 400:
        yield "is long: split it by idea"
    if path.stem in VAGUE:
        yield "has a name that says nothing"
    tree = ast.parse(text)
    if text.strip() and not ast.get_docstring(tree):
        yield "doesn't say what it is"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            size = (node.end_lineno or 0) - node.lineno + 1
            if size > 60:
                yield f"line {node.lineno}: {node.name} has {size} lines"


def test_files_and_functions_are_small_and_say_what_they_are() -> None:
    assert not [f"{path.relative_to(ROOT)} {fault}" for path in FILES for fault in faults(path)]
