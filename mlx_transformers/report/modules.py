"""The model that a recipe builds, as an indented tree."""

import inspect
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from ..layers.counts import count
from ..schema import Recipe

PACKAGE = Path(__file__).parent.parent


def module_tree(recipe: Recipe) -> str:
    """Each module with its parameters' shapes, their number, and where its code stands.

    Equal neighbours are shown once, with their number. The vocabulary is the tokenizer table's,
    since nothing is prepared for this.
    """
    vocab_size = getattr(recipe.model, "vocab_size", None)
    vocab_size = vocab_size or getattr(recipe.data.tokenizer, "vocab_size", None) or 256
    model = recipe.model.build(vocab_size)
    counts = count(model)
    rows = _rows("model", model, 0, 1)
    left = max(len(row[0]) for row in rows)
    shapes = max(len(row[1]) for row in rows)
    lines = [
        f"{name:<{left}}  {shape:<{shapes}}  {number:>12}  {source}".rstrip()
        for name, shape, number, source in rows
    ]
    lines.append(f"{counts.total:,} parameters, {counts.active:,} of them active for a token")
    return "\n".join(lines)


def _rows(name: str, module: nn.Module, depth: int, times: int) -> list[tuple[str, str, str, str]]:
    shapes = [
        f"{key} [{', '.join(map(str, value.shape))}]"
        for key, value in module.items()
        if isinstance(value, mx.array)
    ]
    size = sum(value.size for _, value in tree_flatten(module.parameters()))
    many = f" × {times}" if times > 1 else ""
    label = f"{'  ' * depth}{name}: {type(module).__name__}{many}"
    rows = [(label, " ".join(shapes), f"{size:,}" if size else "", _source(module))]
    for key, child, number in _children(module):
        rows += _rows(key, child, depth + 1, number)
    return rows


def _children(module: nn.Module) -> list[tuple[str, nn.Module, int]]:
    found: list[tuple[str, nn.Module, int]] = []
    for key, value in module.items():
        if isinstance(value, nn.Module):
            found.append((key, value, 1))
        elif isinstance(value, list):
            found += _grouped(key, [item for item in value if isinstance(item, nn.Module)])
    return found


def _grouped(key: str, modules: list[nn.Module]) -> list[tuple[str, nn.Module, int]]:
    groups: list[tuple[str, nn.Module, int]] = []
    for i, module in enumerate(modules):
        if groups and _signature(groups[-1][1]) == _signature(module):
            name, first, number = groups[-1]
            groups[-1] = (name, first, number + 1)
        else:
            groups.append((f"{key}.{i}", module, 1))
    return groups


def _signature(module: nn.Module) -> Any:
    """What makes two modules look the same in the tree: parts, shapes and plain settings."""
    parts = [
        (name, type(m).__name__, tuple(sorted((k, str(v)) for k, v in vars(m).items())))
        for name, m in module.named_modules()
    ]
    return parts, [(name, value.shape) for name, value in tree_flatten(module.parameters())]


def _source(module: nn.Module) -> str:
    cls = type(module)
    path = Path(inspect.getfile(cls))
    if not path.is_relative_to(PACKAGE):
        return cls.__module__
    _, line = inspect.getsourcelines(cls)
    return f"{PACKAGE.name}/{path.relative_to(PACKAGE)}:{line}"
