"""A reference case as read from its folder, and the rule that computes one."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import mlx.core as mx

Arrays = dict[str, mx.array]


@dataclass(frozen=True)
class Case:
    """Inputs, parameters and options of a published function, and the weights of its outputs."""

    name: str
    meta: dict[str, Any]
    inputs: Arrays
    params: Arrays
    cotangents: Arrays
    """By output O, the weights of O in the scalar `loss = sum over O of sum(cotangent * O)`."""

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read `meta.json`, `inputs.safetensors` and, where there is one, `params.safetensors`."""
        inputs = read_arrays(folder / "inputs.safetensors")
        return cls(
            folder.name,
            json.loads((folder / "meta.json").read_text()),
            {name: array for name, array in inputs.items() if not name.startswith("cot.")},
            read_arrays(folder / "params.safetensors"),
            {name[4:]: array for name, array in inputs.items() if name.startswith("cot.")},
        )

    @property
    def options(self) -> dict[str, Any]:
        """The options of the published function, by its own names."""
        return dict(self.meta.get("options") or {})

    @property
    def function(self) -> str:
        """The published function that gave the numbers, and the case's title."""
        return f"{self.meta['source'].get('function', '')} | {self.meta['title']}"

    @property
    def expected(self) -> dict[str, Any]:
        """Shape and dtype of each expected array, by name."""
        return dict(self.meta.get("expected") or {})

    def with_arrays(self, arrays: Arrays) -> Self:
        """The same case with these inputs and parameters in the place of its own."""
        inputs = {name: arrays.get(name, array) for name, array in self.inputs.items()}
        params = {name: arrays.get(name, array) for name, array in self.params.items()}
        return replace(self, inputs=inputs, params=params)


class Rule(NamedTuple):
    """Computes the outputs of every case whose published function or title matches `pattern`."""

    pattern: str
    """A regular expression, searched without regard to case in `Case.function`."""
    compute: Callable[[Case], Arrays]


def read_arrays(path: Path) -> Arrays:
    """Read a safetensors file; no arrays where there is none."""
    if not path.is_file():
        return {}
    loaded: Any = mx.load(str(path))
    return dict(loaded)
