"""Imports point one way: a file imports lower ranks or its own folder, and does so at the top."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

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
    "rl": 6,
    "assembly": 7,
    "profile": 8,
    "report": 9,
    "verbs": 10,
    "cli": 11,
}

FILES = sorted(PACKAGE.rglob("*.py"))
LAZY_FACE = {PACKAGE / "__init__.py", PACKAGE / "core/backend.py"}


def folder_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else ""


def imported(path: Path, node: ast.AST) -> Iterator[str]:
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
    elif isinstance(node, ast.Import | ast.ImportFrom):
        modules = (
            [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        )
        for module in modules:
            assert not module.startswith("mlx_transformers"), f"{path}: import relatively"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_reach_lower_ranks_or_the_own_folder(path: Path) -> None:
    mine = folder_of(path)
    if not mine:
        return  # the lazy Python face names its modules as strings
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        for folder in imported(path, node):
            allowed = folder in (mine, "") or RANKS[folder] < RANKS[mine]
            line = getattr(node, "lineno", 0)
            assert allowed, f"{path.name}:{line}: {mine or 'the package'} may not import {folder}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_the_project_is_imported_at_the_top_of_a_file(path: Path) -> None:
    if folder_of(path) == "cli" or path in LAZY_FACE:
        return  # a verb loads what it runs when it is run
    for outer in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef):
            inner = [n.lineno for n in ast.walk(outer) for _ in imported(path, n)]
            assert not inner, f"{path.name}:{inner[0]}: import at the top of the file"


def test_every_folder_has_a_rank() -> None:
    folders = {p.name for p in PACKAGE.iterdir() if p.is_dir() and any(p.glob("*.py"))}
    assert folders <= RANKS.keys()


def test_no_module_stands_loose_beside_the_rooms() -> None:
    assert [p.name for p in PACKAGE.glob("*.py")] == ["__init__.py"]
