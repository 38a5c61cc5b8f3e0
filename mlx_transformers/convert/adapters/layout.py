"""Published names of layers as paths of our model, and factors of low-rank updates as ours.

A row of a family's weight map moves whole weights; the factors of `s B A` move with it: transforms
of output rows (packed q, k, v; rotary pairs) act on B as on a weight with R inputs.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx

from ...core.errors import ConvertError
from ..family import Family
from ..rows import Row
from ..weights import Move, moves

Arrays = dict[str, mx.array]
WEIGHT = ".weight"


@dataclass(frozen=True)
class Opened:
    """An adapter as our model has it.

    Attributes:
        table: the `[adapt]` table of a recipe.
        weights: the adapter's own weights, and trained ones of the base, by path.
    """

    table: dict[str, Any]
    weights: Arrays


@dataclass(frozen=True)
class Factors:
    """A low-rank update of one of our layers.

    Attributes:
        a, b: the factors, `[..., R, in]` and `[..., out, R]`.
        scale: the factor s.
        magnitude: DoRA's norms of the rows, `[out]`.
    """

    a: mx.array
    b: mx.array
    scale: float
    magnitude: mx.array | None = None


@dataclass
class Layout:
    """The names of a published model beside ours.

    Attributes:
        family: its family.
        shapes: the shapes of our parameters, by path.
        embed_scale: factor of the embeddings of tokens, which their soft prompts contain and ours
            don't.
        tables: the paths of our tables that rows are looked up in.
        moves: each row of the weight map, by every name on their side.
    """

    family: Family
    shapes: Mapping[str, Sequence[int]]
    embed_scale: float = 1.0
    tables: frozenset[str] = frozenset()
    moves: dict[str, Move] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        family: Family,
        table: Sequence[Row],
        shapes: Mapping[str, Sequence[int]],
        embed_scale: float = 1.0,
        tables: frozenset[str] = frozenset(),
    ) -> "Layout":
        """The layout of a model with parameters of these shapes."""
        layout = cls(family, shapes, embed_scale, tables)
        for move in moves(table, shapes):
            layout.moves.update(dict.fromkeys(move.theirs, move))
        return layout

    def renamed(self, name: str) -> str:
        """A name as the family's weight map has it."""
        for pattern, replacement in self.family.renames:
            name = re.sub(pattern, replacement, name)
        return name

    def move(self, tensor: str, where: str) -> Move:
        """The row of a tensor.

        Raises:
            ConvertError: the model has none of that name.
        """
        name = self.renamed(tensor)
        if name not in self.moves:
            tied = self.tied_to(name)
            hint = f" It is tied to {tied}." if tied else ""
            raise ConvertError(f"{where}: the model has no tensor '{name}' to adapt.{hint}")
        return self.moves[name]

    def tied_to(self, name: str) -> str | None:
        """The tensor for which a name is an alias."""
        return next((f for s, f in self.family.tied if re.fullmatch(s, name)), None)

    def layers(self, move: Move) -> list[str]:
        """The paths of our layers whose weights a row moves."""
        return [name.removesuffix(WEIGHT) for name in move.ours]

    def is_table(self, move: Move) -> bool:
        """Whether a row moves a table that rows are looked up in, not a layer that multiplies.

        PEFT and mlx-lm turn the factors of its updates round."""
        return all(path in self.tables for path in self.layers(move))

    def factors(self, module: str, a: mx.array, b: mx.array, where: str) -> dict[str, Arrays]:
        """The factors of our layers, by path, for those of a published module that isn't one of
        several experts.

        Args:
            module: its name.
            a, b: `[R, in]` and `[out, R]`.
            where: the file, for errors.
        """
        move = self.move(module + WEIGHT, where)
        parts = move.via.load([b.T if self.transposed(move) else b])
        factors = {}
        for path, part in zip(self.layers(move), parts, strict=True):
            shape = tuple(self.shapes[path + WEIGHT])
            if (part.shape[0], a.shape[1]) != shape:
                raise ConvertError(
                    f"{where}: the factors {list(a.shape)} and {list(b.shape)} of {module} don't "
                    f"fit {path}, {list(shape)}."
                )
            factors[path] = {"a": a, "b": part}
        return factors

    def vectors(self, module: str, vector: mx.array, where: str) -> Arrays:
        """A vector of a module's outputs `[out]`, as that of each of our layers."""
        move = self.move(module + WEIGHT, where)
        return dict(zip(self.layers(move), move.via.load([vector]), strict=True))

    def transposed(self, move: Move) -> bool:
        """Whether the family stores the weights of a row as `[in, out]`."""
        shapes = [tuple(self.shapes[name]) for name in move.ours]
        if len(move.theirs) > 1 or any(len(shape) != 2 for shape in shapes):
            return False
        rows = [mx.broadcast_to(mx.arange(shape[0])[:, None], shape) for shape in shapes]
        theirs = move.via.save([row.astype(mx.float32) for row in rows])[0]
        if theirs.size == sum(shape[1] for shape in shapes):  # a single row: all its numbers are 0
            return theirs.shape[0] != 1
        return theirs.ndim == 2 and bool(mx.all(theirs[:1] == theirs).item())

    def whole(self, tensors: Mapping[str, mx.array], where: str) -> Arrays:
        """Published tensors of trained weights as our parameters.

        Raises:
            ConvertError: an unknown tensor, or one of several that are packed together is missing.
        """
        parameters: Arrays = {}
        renamed = {self.renamed(name): array for name, array in tensors.items()}
        for name in [name for name in renamed if name not in self.moves]:
            first = renamed.get(self.tied_to(name) or "")
            if first is not None and bool(mx.array_equal(first, renamed[name])):
                del renamed[name]
        for name in renamed:
            move = self.move(name, where)
            if absent := [n for n in move.theirs if n not in renamed]:
                raise ConvertError(f"{where}: {name} is there without {absent[0]}.")
            arrays = move.via.load(
                [renamed[theirs_name].astype(mx.float32) for theirs_name in move.theirs]
            )
            parameters.update(zip(move.ours, arrays, strict=True))
        return parameters


def low_rank_table(
    kind: str, updates: Mapping[str, Factors], *, rslora: bool, tied: bool, dropout: float
) -> dict[str, Any]:
    """The `[adapt]` table of low-rank updates by path."""
    ranks = {path: update.a.shape[-2] for path, update in updates.items()}
    power = 0.5 if rslora else 1.0
    alphas = {path: update.scale * ranks[path] ** power for path, update in updates.items()}
    rank, alpha = _usual(ranks.values()), _usual(alphas.values())
    table: dict[str, Any] = {
        "kind": kind,
        "rank": rank,
        "alpha": float(alpha),
        "targets": sorted(updates),
        "dropout": dropout,
        "ranks": {path: r for path, r in sorted(ranks.items()) if r != rank},
        "alphas": {path: float(x) for path, x in sorted(alphas.items()) if x != alpha},
    }
    if rslora:
        table["scaling"] = "rslora"
    if not tied:
        table["tied_head"] = False
    if not table["ranks"]:
        del table["ranks"]
    if not table["alphas"]:
        del table["alphas"]
    if not dropout:
        del table["dropout"]
    return table


def low_rank_weights(updates: Mapping[str, Factors]) -> Arrays:
    """The weights of low-rank updates by their paths in an adapted model."""
    weights = {}
    for path, update in updates.items():
        weights[f"{path}.adapter.lora_a"], weights[f"{path}.adapter.lora_b"] = update.a, update.b
        if update.magnitude is not None:
            weights[f"{path}.adapter.magnitude"] = update.magnitude
    return weights


def _usual(values: Any) -> Any:
    """The most frequent of some values."""
    every = list(values)
    return max(every, key=every.count)
