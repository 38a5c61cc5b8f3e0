"""Freezing parameters by the paths of their modules."""

from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase

import mlx.nn as nn
from mlx.utils import tree_flatten

from ..core.errors import RecipeError
from ..core.names import nearest
from .parameter import Parameter, parameters_of


def freeze(model: nn.Module, paths: Sequence[str]) -> None:
    """Freeze every parameter at or below one of these paths.

    A frozen parameter has no gradient and no optimizer state; checkpoints hold it like any other.

    Args:
        model: the model.
        paths: dotted paths of modules or parameters, such as "embed" or "stack.blocks.0"; `*`, `?`
            and `[...]` match as in file names, dots included.

    Raises:
        RecipeError: a path matches nothing, or nothing is left to train.
    """
    parameters = list(parameters_of(model))
    for pattern in paths:
        for parameter in matching(parameters, pattern, "train.freeze"):
            parameter.module.freeze(keys=[parameter.name], recurse=False)
    if paths and not tree_flatten(model.trainable_parameters()):
        raise RecipeError(f"train.freeze = {list(paths)} freezes every parameter of the model.")


def matching(
    parameters: Sequence[Parameter],
    pattern: str,
    key: str,
    name: Callable[[str], str] = lambda path: path,
) -> list[Parameter]:
    """The parameters at or below the paths that a pattern matches.

    Args:
        parameters: those of the model.
        pattern: as in `freeze`.
        key: the recipe's key of the pattern, for errors.
        name: another name under which a path is matched too.

    Raises:
        RecipeError: it matches nothing.
    """
    with_names = [(parameter, {parameter.path, name(parameter.path)}) for parameter in parameters]
    matched = [
        parameter
        for parameter, paths in with_names
        if any(_matches(path, pattern) for path in paths)
    ]
    if not matched:
        raise RecipeError(
            _no_match(key, pattern, [name(parameter.path) for parameter in parameters])
        )
    return matched


def _matches(path: str, pattern: str) -> bool:
    return any(fnmatchcase(prefix, pattern) for prefix in _prefixes(path))


def _prefixes(path: str) -> Iterator[str]:
    """Yield "a", "a.b" and "a.b.c" for "a.b.c"."""
    names = path.split(".")
    return (".".join(names[:end]) for end in range(1, len(names) + 1))


def _no_match(key: str, pattern: str, paths: list[str]) -> str:
    prefixes = sorted({prefix for path in paths for prefix in _prefixes(path)})
    match = nearest(pattern, prefixes)
    hint = f" Did you mean '{match}'?" if match else ""
    tops = ", ".join(sorted({path.split(".")[0] for path in paths}))
    return (
        f"{key} names '{pattern}', which matches no module or parameter of the model.{hint} "
        f"Its top modules: {tops}; mlxt show --modules lists all."
    )
