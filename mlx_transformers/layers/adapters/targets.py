"""The layers that adapters update, by path pattern or by role."""

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import NamedTuple

import mlx.nn as nn

from ...core.errors import RecipeError
from ..heads import LmHeadModule
from .adapted import adaptable

ROLES = ("all", "mixer", "cross", "ffn", "experts", "router", "cell", "align", "embedding", "head")
"""Names in place of path patterns. `all` means the linear layers of all blocks but routers."""
INSIDE = ("mixer", "cross", "ffn", "experts", "cell", "align")
NEAREST = 6
"""Paths that an error lists."""


class Target(NamedTuple):
    """A layer by its path in the model without adapters."""

    path: str
    module: nn.Module


def candidates(model: nn.Module, able: Callable[[nn.Module], bool] = adaptable) -> list[Target]:
    """Every layer that an update can wrap, by path."""
    modules = sorted(model.named_modules(), key=lambda item: item[0])
    return [Target(path, module) for path, module in modules if path and able(module)]


def role_of(path: str, module: nn.Module) -> str:
    """The role of a layer: the last of the slots that its path names."""
    parts = path.split(".")
    if isinstance(module, LmHeadModule) or parts[0] in ("head", "pool"):
        return "head"
    if "embed" in parts:
        return "embedding"
    if {"router", "route", "shared_gate"} & set(parts):
        return "router"
    slots = [part for part in parts if part in (*INSIDE, "branch")]
    if slots:
        return "mixer" if slots[-1] == "branch" else slots[-1]
    return "cell" if any(part.startswith("cell") for part in parts) else "other"


def layer_of(path: str) -> int | None:
    """The number of the layer within its stack; None outside of layers."""
    return next((int(part) for part in path.split(".") if part.isdigit()), None)


def matches(target: Target, pattern: str) -> bool:
    """Whether a pattern names a layer: a role, or the end of its path from a dot on, in which `*`,
    `?` and `[...]` match as in file names."""
    if pattern in ROLES:
        role = role_of(*target)
        return role == pattern or (pattern == "all" and role in INSIDE)
    parts = target.path.split(".")
    ends = (".".join(parts[i:]) for i in range(len(parts)))
    return any(fnmatchcase(end, pattern) for end in ends)


def select(
    targets: Sequence[Target], patterns: Sequence[str], layers: Sequence[int] | None, key: str
) -> list[Target]:
    """The layers that patterns name, within the numbered layers; those outside of them stay.

    Args:
        targets: the candidates.
        patterns: as in `matches`.
        layers: numbers of layers within their stack; None: all.
        key: the recipe's key of the patterns, for errors.

    Raises:
        RecipeError: a pattern or a number of a layer matches nothing; names the nearest.
    """
    for pattern in patterns:
        if not any(matches(target, pattern) for target in targets):
            raise RecipeError(no_match(key, pattern, [target.path for target in targets]))
    numbers = {number for t in targets if (number := layer_of(t.path)) is not None}
    if layers is not None and (beyond := sorted(set(layers) - numbers)):
        raise RecipeError(
            f"adapt.layers names layer {beyond[0]}, but the model has layers "
            f"{min(numbers, default=0)} to {max(numbers, default=0)}."
        )
    chosen = [t for t in targets if any(matches(t, pattern) for pattern in patterns)]
    return [t for t in chosen if layers is None or layer_of(t.path) in (None, *layers)]


def no_match(key: str, pattern: str, paths: Sequence[str]) -> str:
    """The sentence on a pattern that matches nothing, with the nearest paths."""
    tails = {".".join(path.split(".")[-2:]): path for path in reversed(paths)}
    near = get_close_matches(pattern, [*paths, *tails], n=NEAREST, cutoff=0.3)
    suggestions = list(dict.fromkeys(tails.get(name, name) for name in near)) or list(
        paths[:NEAREST]
    )
    listed = ", ".join(suggestions) or "none"
    if pattern == "head":
        listed += " (a head that is tied to the embedding has no weight of its own)"
    return (
        f"{key} names '{pattern}', which matches no layer that an adapter can update. The nearest: "
        f"{listed}. Roles: {', '.join(ROLES)}; mlxt show --modules lists all paths."
    )


def module_at(model: nn.Module, path: str) -> nn.Module:
    """The module at a dotted path.

    Raises:
        KeyError, IndexError: there is none.
    """
    at: nn.Module | list[nn.Module] = model
    for part in path.split("."):
        at = at[int(part)] if isinstance(at, list) else at[part]
    assert isinstance(at, nn.Module), "a path of a module ends at one"
    return at


def replace_module(model: nn.Module, path: str, module: nn.Module) -> None:
    """Put a module in the place of the one at a dotted path."""
    before, _, name = path.rpartition(".")
    at: nn.Module | list[nn.Module] = model
    for part in before.split(".") if before else []:
        at = at[int(part)] if isinstance(at, list) else at[part]
    if isinstance(at, list):
        at[int(name)] = module
    else:
        at[name] = module
