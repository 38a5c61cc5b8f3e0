"""Freezing parameters by the paths of their modules."""

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

import mlx.nn as nn
from mlx.utils import tree_flatten

from ..core.errors import RecipeError, nearest
from .parameter import parameters_of


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
        matched = [each for each in parameters if _matches(each.path, pattern)]
        if not matched:
            raise RecipeError(_no_match(pattern, [each.path for each in parameters]))
        for each in matched:
            each.module.freeze(keys=[each.name], recurse=False)
    if paths and not tree_flatten(model.trainable_parameters()):
        raise RecipeError(f"train.freeze = {list(paths)} freezes every parameter of the model.")


def _matches(path: str, pattern: str) -> bool:
    return any(fnmatchcase(prefix, pattern) for prefix in _prefixes(path))


def _prefixes(path: str) -> Iterator[str]:
    """Yield "a", "a.b" and "a.b.c" for "a.b.c"."""
    names = path.split(".")
    return (".".join(names[:end]) for end in range(1, len(names) + 1))


def _no_match(pattern: str, paths: list[str]) -> str:
    known = sorted({prefix for path in paths for prefix in _prefixes(path)})
    match = nearest(pattern, known)
    hint = f" Did you mean '{match}'?" if match else ""
    tops = ", ".join(sorted({path.split(".")[0] for path in paths}))
    return (
        f"train.freeze names '{pattern}', which matches no module or parameter of the model.{hint} "
        f"Its top modules: {tops}; mlxt show --modules lists all."
    )
