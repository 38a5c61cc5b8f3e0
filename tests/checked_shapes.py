"""Checks the shapes in signatures of the package at every call that a test makes.

jaxtyping's own import hook decorates nested functions too, each time they are defined: 25 ms for a
norm. This one decorates the functions and methods of a module once, those that declare a shape.
"""

import importlib
import importlib.abc
import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from inspect import isfunction
from types import ModuleType
from typing import Any, get_args

CHECKED = "MLXT_CHECK_SHAPES"
PACKAGES = ("mlx_transformers.ops.", "mlx_transformers.layers.")


def install() -> bool:
    """Check shapes from now on, where jaxtyping and beartype are installed."""
    if any(find_spec(name) is None for name in ("jaxtyping", "beartype")):
        return False
    os.environ[CHECKED] = "1"
    importlib.import_module("mlx_transformers.core.shapes")
    del os.environ[CHECKED]  # not for the processes that tests start
    sys.meta_path.insert(0, Finder())
    return True


class Finder(importlib.abc.MetaPathFinder):
    """Finds modules as usual, and has their functions checked."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not name.startswith(PACKAGES):
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = Loader(spec.loader)
        return spec


class Loader(importlib.abc.Loader):
    """Executes a module, then checks what it defines."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self.loader.exec_module(module)
        check(module)
        for value in list(vars(module).values()):
            if isinstance(value, type) and value.__module__ == module.__name__:
                check(value)


def check(owner: Any) -> None:
    """Check calls of the functions of a module or a class that declare a shape."""
    from beartype import beartype
    from jaxtyping import jaxtyped

    module = owner.__name__ if isinstance(owner, ModuleType) else owner.__module__
    for name, value in list(vars(owner).items()):
        own = isfunction(value) and value.__module__ == module
        if own and any(map(has_shape, value.__annotations__.values())):
            setattr(owner, name, jaxtyped(typechecker=beartype)(value))


def has_shape(annotation: Any) -> bool:
    """Whether a type is, or holds, an array type with a shape."""
    from jaxtyping import AbstractArray

    if isinstance(annotation, type) and issubclass(annotation, AbstractArray):
        return True
    return any(map(has_shape, get_args(annotation)))
