"""An operation that nothing in the package calls says so: its docstring has "Stand-alone"."""

import ast
import re
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "mlx_transformers"
SOURCES = {path: path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))}
REFERENCE = "_naive"
"""End of the name of a plain definition, for tests alone."""


def is_called(name: str, home: Path) -> bool:
    word = re.compile(rf"\b{name}\b")
    elsewhere = any(word.search(text) for path, text in SOURCES.items() if path != home)
    return elsewhere or len(word.findall(SOURCES[home])) > 1


def test_operations_that_nothing_calls_say_so() -> None:
    faults = []
    for path in sorted((PACKAGE / "ops").glob("*.py")):
        module = ast.parse(SOURCES[path])
        about_module = ast.get_docstring(module) or ""
        for node in module.body:
            if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
                continue
            marked = "Stand-alone" in f"{about_module} {ast.get_docstring(node)}"
            called = is_called(node.name, path)
            if not called and not marked and REFERENCE not in node.name:
                faults.append(f"{path.name}: nothing calls {node.name}: mark it as stand-alone")
            if called and "Stand-alone" in (ast.get_docstring(node) or ""):
                faults.append(f"{path.name}: {node.name} is called, so it isn't stand-alone")
    assert not faults
