"""A factor of the scores moved into the map of queries, where a family has another: T5's is 1."""

from collections.abc import Iterator, Mapping
from typing import Any

import mlx.core as mx

from .match import folds
from .view import plain

Table = Mapping[str, Any]
SIDES = ("encoder", "decoder")


def folded(parameters: Mapping[str, mx.array], ours: Table, theirs: Table) -> dict[str, mx.array]:
    """Parameters of a model that scales its scores as the table `theirs` says, and gives the same.

    `scale · (W x) · k = scale' · (scale / scale' · W x) · k`, and so for the bias.

    Args:
        parameters: by name.
        ours: the settled `[model]` table of the model that they belong to.
        theirs: the table of the family, which differs in nothing else.
    """
    out = dict(parameters)
    for name, factor in factors(plain(ours), plain(theirs)):
        for leaf in ("weight", "bias"):
            if (array := out.get(f"{name}.q.{leaf}")) is not None:
                out[f"{name}.q.{leaf}"] = array * factor
    return out


def factors(ours: Table, theirs: Table) -> Iterator[tuple[str, float]]:
    """The mixers of two plain tables whose scales differ: the module's name, and ours / theirs."""
    for prefix, one, two in stacks(ours, theirs):
        pairs = zip(one["layers"], two["layers"], strict=True)
        for i, (mine, other) in enumerate(list(pairs)[: one.get("n_distinct")]):
            for part in ("mixer", "cross"):
                mixer = mine.get(part) or {}
                if folds(mixer) and mixer["scale"] != other[part]["scale"]:
                    yield f"{prefix}stack.blocks.{i}.{part}", mixer["scale"] / other[part]["scale"]


def stacks(ours: Table, theirs: Table) -> Iterator[tuple[str, Table, Table]]:
    """The towers of two tables side by side, each with the prefix of its parameters."""
    if "layers" in ours:
        yield "", ours, theirs
        return
    for side in SIDES:
        if "layers" in (ours.get(side) or {}):
            yield f"{side}.", ours[side], theirs[side]
