"""Shows the model of a recipe as an indented tree of modules."""

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from ..assembly.model import DRAFT_VOCAB_SIZE, draft_model, recipe_vocab_size
from ..assembly.recipe import Recipe
from ..layers.counts import count
from ..recipe.config import Config

PACKAGE = Path(__file__).parent.parent


@dataclass(frozen=True)
class Row:
    """One line of the tree: a module, or the settings of the module above it."""

    depth: int
    label: str
    shapes: str = ""
    size: str = ""
    source: str = ""


def module_tree(recipe: Recipe, width: int | None = None) -> str:
    """List each module with the shapes and number of its parameters, and the place of its code.

    Equal neighbours are shown once, with their number. The vocabulary is the tokenizer table's,
    since nothing is prepared for this. Where lines would exceed `width`, files are named from
    the package's folder on.
    """
    model = draft_model(recipe)
    rows = list(_rows("model", model, 0, 1))
    lines = _lines(rows, f"{PACKAGE.name}/", step=2)
    short = width is not None and max(map(len, lines)) > width
    if short:
        lines = _lines(rows, "", step=1)
    counts = count(model)
    lines.append(f"{counts.total:,} parameters, {counts.active:,} of them active for a token")
    if short:
        lines.append(f"Files are below {PACKAGE.name}/.")
    if recipe_vocab_size(recipe) is None:
        lines.append(
            f"The vocabulary is taken as {DRAFT_VOCAB_SIZE}; the text will tell the real one."
        )
    return "\n".join(lines)


def _lines(rows: list[Row], prefix: str, step: int) -> list[str]:
    """Format the rows with `step` spaces per level and between columns."""
    labels = [" " * (step * row.depth) + row.label for row in rows]
    label = max(len(text) for text, row in zip(labels, rows, strict=True) if row.source)
    shapes = max(len(row.shapes) for row in rows)
    size = max(len(row.size) for row in rows)
    lines = []
    for text, row in zip(labels, rows, strict=True):
        source = row.source if row.source.startswith("mlx.") else prefix + row.source
        cells = (f"{text:<{label}}", f"{row.shapes:<{shapes}}", f"{row.size:>{size}}", source)
        lines.append((" " * step).join(cells) if row.source else text)
    return lines


def _rows(name: str, module: nn.Module, depth: int, times: int) -> Iterator[Row]:
    size = sum(value.size for _, value in tree_flatten(module.parameters()))
    many = f"{times} × " if times > 1 else ""
    yield Row(
        depth,
        f"{name}: {type(module).__name__}",
        _shapes(module),
        f"{many}{size:,}" if size else "",
        _source(module),
    )
    if settings := _settings(module):
        yield Row(depth + 1, f"({settings})")
    for key, child, number in _children(module):
        yield from _rows(key, child, depth + 1, number)


def _shapes(module: nn.Module) -> str:
    """Shapes of a module's own arrays; `weight` is shown without its name."""
    shapes = [
        ("" if key == "weight" else f"{key} ") + "×".join(map(str, value.shape))
        for key, value in module.items()
        if isinstance(value, mx.array)
    ]
    return ", ".join(shapes)


def _settings(module: nn.Module) -> str:
    """Settings of a module that its shapes don't show: heads, window, theta."""
    if not _is_ours(module) or any(isinstance(value, mx.array) for value in module.values()):
        return ""
    texts: list[str] = []
    for name, value in vars(module).items():
        if not name.startswith("_"):
            texts += _setting(name, value)
    return ", ".join(texts)


def _setting(name: str, value: object) -> list[str]:
    if isinstance(value, Config):
        fields = [(n, getattr(value, n)) for n in type(value).model_fields if n != "kind"]
        return [text for n, v in fields for text in _setting(n, v)]
    if callable(value):
        return [f"{name} {getattr(value, '__name__', value)}"]
    if value is True:
        return [name]
    if isinstance(value, float) and value:
        return [f"{name} {value:.6g}"]
    return [f"{name} {value}"] if value and isinstance(value, int | str) else []


def _children(module: nn.Module) -> Iterator[tuple[str, nn.Module, int]]:
    for key, value in module.items():
        if isinstance(value, nn.Module):
            yield key, value, 1
        elif isinstance(value, list):
            yield from _grouped(key, [item for item in value if isinstance(item, nn.Module)])


def _grouped(key: str, modules: list[nn.Module]) -> Iterator[tuple[str, nn.Module, int]]:
    """Group equal neighbours of a list of modules: the first of each group, and its size."""
    start = 0
    for stop in range(1, len(modules) + 1):
        if stop < len(modules) and _signature(modules[stop]) == _signature(modules[start]):
            continue
        span = f"{key}.{start}" if stop - start == 1 else f"{key}.{start}-{stop - 1}"
        yield span, modules[start], stop - start
        start = stop


def _signature(module: nn.Module) -> Any:
    """A key that is equal for modules that look the same in the tree: parts, shapes, settings."""
    parts = [
        (name, type(m).__name__, tuple(sorted((k, str(v)) for k, v in vars(m).items())))
        for name, m in module.named_modules()
    ]
    return parts, [(name, value.shape) for name, value in tree_flatten(module.parameters())]


def _is_ours(module: nn.Module) -> bool:
    return Path(inspect.getfile(type(module))).is_relative_to(PACKAGE)


def _source(module: nn.Module) -> str:
    cls = type(module)
    if not _is_ours(module):
        return ".".join(cls.__module__.split(".")[:2])
    _, line = inspect.getsourcelines(cls)
    return f"{Path(inspect.getfile(cls)).relative_to(PACKAGE)}:{line}"
