"""The package uses each of its operations; those that only tools use stand beside the tool."""

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "mlx_transformers"
MODULES = {path: ast.parse(path.read_text("utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}
TWIN = "naive"
"""Part of the name of a plain definition, for tests alone."""


def names_in(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.ImportFrom):
            yield from (alias.name for alias in node.names)


def used(name: str, home: Path) -> bool:
    others = (tree for path, tree in MODULES.items() if path != home)
    own = (node for node in MODULES[home].body if getattr(node, "name", None) != name)
    return any(name in NAMES[tree] for tree in others) or any(name in names_in(n) for n in own)


NAMES = {tree: frozenset(names_in(tree)) for tree in MODULES.values()}


def test_the_package_uses_each_operation() -> None:
    faults = [
        f"{path.name}: nothing in the package uses {node.name}"
        for path in sorted((PACKAGE / "ops").glob("*.py"))
        for node in MODULES[path].body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and TWIN not in node.name.lower()
        and not used(node.name, path)
    ]
    assert not faults
