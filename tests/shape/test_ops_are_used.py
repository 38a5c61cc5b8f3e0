"""The package uses each of its operations; those that only tools use stand beside the tool."""

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "mlx_transformers"
MODULES = {path: ast.parse(path.read_text("utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}
TWIN = "naive"
"""Part of the name of a plain definition, for tests alone."""


def source_of(node: ast.ImportFrom, path: Path) -> Path:
    """The folder or module, without its suffix, that an import of the package's names reads."""
    below = (node.module or "").split(".") if node.module else []
    if not node.level:
        return PACKAGE.parent.joinpath(*below)
    return path.parents[node.level - 1].joinpath(*below)


def taken_by(path: Path, tree: ast.Module) -> Iterator[tuple[Path, str]]:
    """The modules, without suffix, and their names that a module imports or reads by attribute."""
    modules: dict[str, Path] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            source = source_of(node, path)
            for alias in node.names:
                yield source, alias.name
                modules[alias.asname or alias.name] = source / alias.name
    for node in ast.walk(tree):
        owner = node.value if isinstance(node, ast.Attribute) else None
        if isinstance(owner, ast.Name) and owner.id in modules:
            yield modules[owner.id], node.attr


def names_in(tree: ast.AST) -> Iterator[str]:
    return (node.id for node in ast.walk(tree) if isinstance(node, ast.Name))


def used(name: str, home: Path) -> bool:
    own = (node for node in MODULES[home].body if getattr(node, "name", None) != name)
    return (home.with_suffix(""), name) in TAKEN or any(name in names_in(node) for node in own)


TAKEN = {taken for path, tree in MODULES.items() for taken in taken_by(path, tree)}


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


def test_a_name_of_the_same_spelling_is_not_a_use() -> None:
    text = "from ..ops.near import a as b\nfrom ..ops import far\nfar.c, near.d, identity"
    taken = set(taken_by(PACKAGE / "layers" / "here.py", ast.parse(text)))
    ops = PACKAGE / "ops"
    assert taken == {(ops / "near", "a"), (ops, "far"), (ops / "far", "c")}
