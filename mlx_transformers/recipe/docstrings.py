"""Docstrings of the fields of recipe classes.

They are read from the source when a reference, a schema or an error asks for them: for hundreds of
classes that takes a second, which no other command should wait for.
"""

import ast
import inspect
import sys
from functools import cache
from itertools import pairwise

from pydantic.fields import FieldInfo

from .config import Config


def description(cls: type[Config], name: str) -> str:
    """Describe a field of a class: its `description`, else the docstring below it, there or in the
    nearest class that it inherits the field from, else ""."""
    info: FieldInfo = cls.model_fields[name]
    if info.description is not None:
        return info.description
    owners = (owner for owner in cls.__mro__ if name in inspect.get_annotations(owner))
    return next(filter(None, (_docstrings(owner).get(name) for owner in owners)), "")


@cache
def _docstrings(cls: type) -> dict[str, str]:
    """The docstrings below the fields that a class itself annotates."""
    definition = _definition(cls)
    body = [] if definition is None else definition.body
    docstrings = {}
    for field, below in pairwise(body):
        if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
            continue
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            docstrings[field.target.id] = inspect.cleandoc(str(below.value.value))
    return docstrings


def _definition(cls: type) -> ast.ClassDef | None:
    """The syntax tree of a class, None where its source is not at hand."""
    scope: list[ast.AST] = [_tree(cls.__module__)]
    for part in cls.__qualname__.replace("<locals>.", "").split("."):
        scope = [
            node
            for outer in scope
            for node in ast.walk(outer)
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == part
        ]
    return next((node for node in scope if isinstance(node, ast.ClassDef)), None)


@cache
def _tree(module: str) -> ast.Module:
    try:
        return ast.parse(inspect.getsource(sys.modules[module]))
    except (OSError, TypeError):
        return ast.Module(body=[], type_ignores=[])
