"""Moves the scale of attention scores into the query weights, for families with another scale.

T5 has none: its scale is 1.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import mlx.core as mx

from .flat_model import flatten
from .match import scale_folds

Table = Mapping[str, Any]


def fold_scales(
    parameters: Mapping[str, mx.array], ours: Table, theirs: Table
) -> dict[str, mx.array]:
    """Return parameters rescaled so that the scores need the scale of the table `theirs`.

    `scale · (W x) · k = scale' · (scale / scale' · W x) · k`, and so for the bias.

    Args:
        parameters: by name.
        ours: the settled `[model]` table of the model that they belong to.
        theirs: the table of the family, which differs in nothing else.
    """
    out = dict(parameters)
    for name, factor in factors(flatten(ours), flatten(theirs)):
        for leaf in ("weight", "bias"):
            if (array := out.get(f"{name}.q.{leaf}")) is not None:
                out[f"{name}.q.{leaf}"] = array * factor
    return out


def factors(ours: Table, theirs: Table) -> Iterator[tuple[str, float]]:
    """Yield the mixers of two flat tables whose scales differ, with the ratio ours / theirs."""
    for prefix, our_tower, their_tower in stacks(ours, theirs):
        pairs = zip(our_tower["layers"], their_tower["layers"], strict=True)
        for i, (our_layer, their_layer) in enumerate(list(pairs)[: our_tower.get("n_distinct")]):
            for part in ("mixer", "cross"):
                mixer = our_layer.get(part) or {}
                if scale_folds(mixer) and mixer["scale"] != their_layer[part]["scale"]:
                    yield (
                        f"{prefix}stack.blocks.{i}.{part}",
                        mixer["scale"] / their_layer[part]["scale"],
                    )


def stacks(ours: Table, theirs: Table) -> Iterator[tuple[str, Table, Table]]:
    """Yield the stacks of two tables side by side, with the prefix of their parameters."""
    if "layers" in ours:
        yield "", ours, theirs
        return
    for side, table in ours.items():
        if isinstance(table, Mapping) and "layers" in table:
            yield f"{side}.", table, theirs[side]
