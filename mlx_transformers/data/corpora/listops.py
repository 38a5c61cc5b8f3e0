"""ListOps: nested lists with operators, and their value."""

import statistics
from collections.abc import Callable
from typing import ClassVar

import numpy as np
from pydantic import Field, model_validator

from ...core.errors import DataError
from .generated import GeneratedCorpus, Settings
from .records import Row

OPERATORS: dict[str, Callable[[list[int]], int]] = {
    "[MIN": min,
    "[MAX": max,
    "[MED": lambda values: int(statistics.median(values)),
    "[SM": lambda values: sum(values) % 10,
}
"""By token, the value of a list of digits; the median of an even number of them is rounded down."""

VALUE_PROBABILITY = 0.75
"""Chance that an argument is a digit rather than a list, as in the published generator."""

Tree = int | tuple[str, list["Tree"]]


class ListOpsSettings(Settings):
    """Settings of `listops`."""

    max_depth: int = Field(6, ge=1)
    """Lists within lists."""
    max_args: int = Field(6, ge=2)
    """Arguments of a list; at least two are drawn."""
    min_length: int = Field(20, ge=1)
    """Tokens of the shortest example."""
    max_length: int = Field(200, ge=4)
    """Tokens of the longest example."""

    @model_validator(mode="after")
    def _ordered(self) -> "ListOpsSettings":
        if self.min_length > self.max_length:
            raise ValueError(f"min_length {self.min_length} is above max_length {self.max_length}")
        return self


class ListOps(GeneratedCorpus):
    """ListOps (Nangia and Bowman 2018; Long Range Arena, Tay et al. 2020): the value of a list.

    `[MAX 4 3 [MIN 2 3 ] 1 0 ]` is 4: a text and its label, a digit. Operators are minimum, maximum,
    median and sum modulo 10.
    """

    name = "listops"
    config: ClassVar[type[Settings]] = ListOpsSettings
    settings: ListOpsSettings

    def example(self, rng: np.random.Generator) -> Row:
        s = self.settings
        best: list[str] = []
        for _ in range(1000):
            tree = self._tree(rng, s.max_depth)
            words = tokens(tree)
            if s.min_length <= len(words) <= s.max_length:
                return {"text": " ".join(words), "label": str(value(tree))}
            best = max(best, words, key=len)
        raise DataError(
            f"data.settings of listops: no example of {s.min_length} to {s.max_length} tokens was "
            f"found in 1,000 draws (the longest had {len(best)}). Widen min_length and max_length, "
            "or change max_depth and max_args."
        )

    def _tree(self, rng: np.random.Generator, depth: int) -> Tree:
        outermost = depth == self.settings.max_depth
        if depth == 0 or (not outermost and rng.random() < VALUE_PROBABILITY):
            return int(rng.integers(10))
        operator = list(OPERATORS)[int(rng.integers(len(OPERATORS)))]
        n_args = int(rng.integers(2, self.settings.max_args + 1))
        return operator, [self._tree(rng, depth - 1) for _ in range(n_args)]


def tokens(tree: Tree) -> list[str]:
    """The words of an expression."""
    if isinstance(tree, int):
        return [str(tree)]
    operator, arguments = tree
    return [operator, *(word for argument in arguments for word in tokens(argument)), "]"]


def value(tree: Tree) -> int:
    """The value of an expression, a digit."""
    if isinstance(tree, int):
        return tree
    operator, arguments = tree
    return OPERATORS[operator]([value(argument) for argument in arguments])
