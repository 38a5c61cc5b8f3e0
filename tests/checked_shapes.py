"""Checks the shapes in signatures of the package at every call that a test makes.

The types are jaxtyping's. Its own decorator costs 0.2 ms a call, which is a third of a test of tiny
models; this one compares sizes and kinds of numbers alone, and leaves other types to mypy.
"""

import functools
import importlib
import importlib.abc
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from types import ModuleType, UnionType
from typing import Any, Union, get_args, get_origin

CHECKED = "MLXT_CHECK_SHAPES"
PACKAGES = ("mlx_transformers.ops.", "mlx_transformers.layers.")

Sizes = dict[str, Any]
"""The sizes of the letters of one call, and the leading sizes of `*x`."""
Check = Callable[[Any, Sizes], bool]
"""Whether a value has its type, given the sizes so far; adds those that it fixes."""


class ShapeError(TypeError):
    """An array of another shape or number type than the signature says."""


def install() -> bool:
    """Check shapes from now on, where jaxtyping is installed."""
    if find_spec("jaxtyping") is None:
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
    module = owner.__name__ if isinstance(owner, ModuleType) else owner.__module__
    for name, value in list(vars(owner).items()):
        own = inspect.isfunction(value) and value.__module__ == module
        if own and any(map(has_shape, value.__annotations__.values())):
            setattr(owner, name, checked(value))


def has_shape(annotation: Any) -> bool:
    """Whether a type is, or holds, an array type with a shape."""
    from jaxtyping import AbstractArray

    if isinstance(annotation, type) and issubclass(annotation, AbstractArray):
        return True
    return any(map(has_shape, get_args(annotation)))


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with its arguments and its result checked.

    Raises:
        ShapeError: at a call, where a shape or a type of number is another.
    """
    names = tuple(inspect.signature(function).parameters)
    checks = {n: check_of(a) for n, a in function.__annotations__.items() if has_shape(a)}
    result = checks.pop("return", None)
    places = tuple((i, name, checks[name]) for i, name in enumerate(names) if name in checks)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        sizes: Sizes = {}
        for i, name, fits in places:
            if i < len(args):
                if not fits(args[i], sizes):
                    raise mismatch(function, name, args[i], sizes)
            elif name in kwargs and not fits(kwargs[name], sizes):
                raise mismatch(function, name, kwargs[name], sizes)
        out = function(*args, **kwargs)
        if result is not None and not result(out, sizes):
            raise mismatch(function, "return", out, sizes)
        return out

    return call


def mismatch(function: Callable[..., Any], name: str, value: Any, sizes: Sizes) -> ShapeError:
    expected = function.__annotations__[name]
    found = (value.shape, value.dtype) if hasattr(value, "shape") else value
    return ShapeError(
        f"{function.__qualname__}: {name} is {found}, not {expected} where {sizes} are fixed"
    )


def check_of(annotation: Any) -> Check:
    """The check of a type; one without a shape in it admits any value."""
    if not has_shape(annotation):
        return lambda value, sizes: True
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return either([check_of(p) for p in parts if p is not type(None)], type(None) in parts)
    if origin is list or (origin is tuple and parts[-1] is Ellipsis):
        return every(check_of(parts[0]))
    if origin is tuple:
        return each([check_of(part) for part in parts])
    if origin is not None:
        raise TypeError(f"{annotation}: shapes in a {origin} can't be checked")
    return array_check(annotation)


def either(checks: list[Check], none: bool) -> Check:
    def fits(value: Any, sizes: Sizes) -> bool:
        return (none and value is None) or any(one(value, sizes) for one in checks)

    return fits


def every(check: Check) -> Check:
    def fits(value: Any, sizes: Sizes) -> bool:
        return all(check(part, sizes) for part in value)

    return fits


def each(checks: list[Check]) -> Check:
    def fits(value: Any, sizes: Sizes) -> bool:
        return len(value) == len(checks) and all(
            one(part, sizes) for one, part in zip(checks, value, strict=True)
        )

    return fits


def array_check(annotation: Any) -> Check:
    """The check of one array: its type, its numbers, and its dimensions, such as `"*x T 1 _"`."""
    import mlx.core as mx

    every = vars(mx).values()
    numbers = {"Float": mx.floating, "Integer": mx.integer, "Bool": mx.bool_}
    number = numbers[annotation.dtype.__name__]
    dtypes = {each for each in every if isinstance(each, mx.Dtype) and mx.issubdtype(each, number)}
    array, words = annotation.array_type, annotation.dim_str.split()
    many = [i for i, word in enumerate(words) if word == "..." or word.startswith("*")]
    n, begin = len(words), many[0] if many else len(words)
    one = [word for i, word in enumerate(words) if i not in many]
    if len(many) > 1 or not all(word.isalnum() or word == "_" for word in one):
        raise TypeError(f"{annotation}: dimensions are letters, numbers, _, and one *x or ...")
    fixed = [(i, int(word)) for i, word in enumerate(words) if word.isdigit()]
    named = [(i, w) for i, w in enumerate(words) if w not in ("_", "...") and not w.isdigit()]

    def fits(value: Any, sizes: Sizes) -> bool:
        if not isinstance(value, array) or value.dtype not in dtypes:
            return False
        shape = value.shape
        if many:
            end = begin + len(shape) - (n - 1)
            if end < begin:
                return False
            shape = (*shape[:begin], shape[begin:end], *shape[end:])
        if len(shape) != n:
            return False
        for i, name in named:
            if sizes.setdefault(name, shape[i]) != shape[i]:
                return False
        return all(shape[i] == size for i, size in fixed)

    return fits
