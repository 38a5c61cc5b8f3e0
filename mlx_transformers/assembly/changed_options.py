"""Options that two models don't share, and that change what their shared weights compute.

A weight fits another model by name and shape even where that model uses it differently: with
another RoPE base, number of heads, window, eps, activation or scale.
"""

import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from ..convert.flat_model import flatten
from ..convert.match import TRAINING

Table = Mapping[str, Any]
SIZES = {"vocab_size", "max_seq_len", "n_layers", "n_classes", "unit"}
"""Sizes: a weight of another size isn't shared, and fewer layers or classes change no weight."""
PARTS = {"mixer", "ffn", "cross", "branch", "head", "pool", "router", "expert", "shared"}
"""Tables of modules that may be new in a model, with weights of their own."""


def changed_options(
    source: Table, target: Table, ours: Collection[str], shared: Collection[str]
) -> list[str]:
    """List the options that change what shared weights compute in the target, one a line.

    Args:
        source: the resolved `[model]` table that the weights come from.
        target: that of the model that takes them.
        ours: names of all weights of the target.
        shared: names of those that it takes.
    """
    names = _Names(ours, shared)
    lines = _differences(flatten(source), flatten(target), "", "", names)
    return list(dict.fromkeys(lines))


class _Names:
    """The weights of a model, and those of them that come from a source."""

    def __init__(self, ours: Collection[str], shared: Collection[str]) -> None:
        self.ours = ours
        self.shared = shared

    def is_new(self, module: str) -> bool:
        """Whether a module has weights, and none of them is shared."""
        inside = f"{module}."
        has_own = any(name.startswith(inside) for name in self.ours)
        return has_own and not any(name.startswith(inside) for name in self.shared)


def _differences(one: Table, two: Table, path: str, module: str, names: _Names) -> Iterator[str]:
    """Yield the differences of two tables.

    Args:
        one, two: flat tables.
        path: of both in a recipe, with a dot at its end.
        module: prefix of the weights of both.
        names: the weights.
    """
    for key in [*one, *(key for key in two if key not in one)]:
        a, b = one.get(key), two.get(key)
        if key in SIZES or key in TRAINING or (key == "kind" and not path) or _equal(a, b):
            continue
        if key == "layers" and a and b:
            for i, (ours, theirs) in enumerate(zip(a, b, strict=False)):
                inside = f"{module}stack.blocks.{i}"
                if not names.is_new(inside):
                    yield from _differences(ours, theirs, f"{path}block.", f"{inside}.", names)
        elif key in PARTS and (a is None or b is None or names.is_new(f"{module}{key}")):
            if key not in ("head", "pool") and (a is None or b is None):
                yield f"{path}{key} = {_short(a)} there, {_short(b)} here"
        elif isinstance(a, Mapping) and isinstance(b, Mapping) and a.get("kind") == b.get("kind"):
            yield from _differences(a, b, f"{path}{key}.", f"{module}{key}.", names)
        elif key not in ("head", "pool"):
            yield f"{path}{key} = {_short(a)} there, {_short(b)} here"


def _equal(a: object, b: object) -> bool:
    if isinstance(a, float) and isinstance(b, int | float):
        return math.isclose(a, b, rel_tol=1e-9)
    return bool(a == b)


def _short(value: object) -> str:
    if isinstance(value, Mapping):
        return f"kind '{value['kind']}'" if "kind" in value else "a table"
    return "none" if value is None else repr(value)[:60]
