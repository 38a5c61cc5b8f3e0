"""Imports point one way: a file imports lower ranks or its own folder, and does so at the top."""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "mlx_transformers"

RANKS = {
    "core": 0,
    "recipe": 1,
    "ops": 1,
    "score": 1,
    "layers": 2,
    "data": 2,
    "models": 3,
    "objectives": 3,
    "runs": 3,
    "optim": 3,
    "distributed": 4,
    "trainer": 5,
    "memory": 5,
    "decode": 5,
    "convert": 5,
    "adapt": 5,
    "compress": 5,
    "rl": 6,
    "chat": 6,
    "assembly": 7,
    "profile": 8,
    "serve": 8,
    "report": 9,
    "inside": 10,
    "verbs": 11,
    "certify": 12,
    "cli": 13,
}

FILES = sorted(PACKAGE.rglob("*.py"))
LAZY_FACE = {PACKAGE / "__init__.py", PACKAGE / "core/backend.py"}


def folder_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else ""


@functools.cache
def imports(path: Path) -> list[tuple[ast.Import | ast.ImportFrom, bool]]:
    """The import statements of a file, and whether each stands in a function."""
    found = []
    nodes: list[tuple[ast.AST, bool]] = [(ast.parse(path.read_text(encoding="utf-8")), False)]
    for node, inside in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            found.append((node, inside))
        inside = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        nodes += [(child, inside) for child in ast.iter_child_nodes(node)]
    return found


def imported(path: Path, node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    """The folders of the package that an import statement reaches ("" for the package itself)."""
    if isinstance(node, ast.ImportFrom) and node.level:
        here = path.relative_to(PACKAGE).parts[:-1]
        base = here[: len(here) - node.level + 1]
        names = (
            [[*base, *node.module.split(".")]]
            if node.module
            else [[*base, a.name] for a in node.names]
        )
        for parts in names:
            yield parts[0] if (PACKAGE / parts[0]).is_dir() else ""
    else:
        modules = (
            [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        )
        for module in modules:
            assert not module.startswith("mlx_transformers"), f"{path}: import relatively"


def test_imports_reach_lower_ranks_or_the_own_folder() -> None:
    faults = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}: {folder_of(path)} may not import {folder}"
        for path in FILES
        if folder_of(path)  # the lazy Python face names its modules as strings
        for node, _ in imports(path)
        for folder in imported(path, node)
        if folder not in (folder_of(path), "") and RANKS[folder] >= RANKS[folder_of(path)]
    ]
    assert not faults


def test_the_project_is_imported_at_the_top_of_a_file() -> None:
    faults = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}: import at the top of the file"
        for path in FILES
        if folder_of(path) != "cli" and path not in LAZY_FACE  # a verb loads what it runs
        for node, inside in imports(path)
        if inside and list(imported(path, node))
    ]
    assert not faults


def test_every_folder_has_a_rank() -> None:
    folders = {p.name for p in PACKAGE.iterdir() if p.is_dir() and any(p.glob("*.py"))}
    assert folders <= RANKS.keys()


def test_no_module_stands_loose_beside_the_rooms() -> None:
    assert [p.name for p in PACKAGE.glob("*.py")] == ["__init__.py"]
