"""A reference case as read from its folder, and the rule that computes one."""

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import mlx.core as mx
import numpy as np

Arrays = dict[str, mx.array]

DTYPES: dict[str, str] = {"F64": "<f8", "F32": "<f4", "I64": "<i8", "I32": "<i4", "U8": "|u1"}
"""NumPy's name of each dtype of the cases with float64 arrays, which MLX doesn't read."""


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
        """Shape and dtype of each expected array by name, as far as meta.json lists them."""
        return dict(self.meta.get("expected") or {})

    def names(self, *usual: str) -> list[str]:
        """The expected arrays that are no gradients; the `usual` ones where none are listed."""
        listed = [name for name in self.expected if name != "loss" and not name.startswith("grad")]
        return listed or list(usual)

    def expects(self, name: str) -> bool:
        """Whether meta.json lists an array of this name, or lists none at all."""
        return name in self.expected or not self.expected

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
    """Read a safetensors file, float64 arrays as such; no arrays where there is none."""
    if not path.is_file():
        return {}
    with open(path, "rb") as file:
        header: dict[str, Any] = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        content = file.read()
    header.pop("__metadata__", None)
    if all(entry["dtype"] != "F64" for entry in header.values()):
        loaded: Any = mx.load(str(path))
        return dict(loaded)
    return {name: _array(content, entry) for name, entry in header.items()}


def _array(content: bytes, entry: dict[str, Any]) -> mx.array:
    begin, end = entry["data_offsets"]
    dtype = DTYPES[entry["dtype"]]
    values = np.frombuffer(content[begin:end], dtype).reshape(entry["shape"])
    return mx.array(values, mx.float64) if entry["dtype"] == "F64" else mx.array(values)


def write_arrays(path: Path, arrays: Arrays) -> None:
    """Write a safetensors file; MLX writes it unless an array is float64."""
    if all(array.dtype != mx.float64 for array in arrays.values()):
        mx.save_safetensors(str(path), arrays)
        return
    header, content = {}, b""
    names = {"float64": "F64", "float32": "F32", "int64": "I64", "int32": "I32", "uint8": "U8"}
    for name, array in arrays.items():
        values = np.asarray(array)
        data = values.tobytes()
        offsets = [len(content), len(content) + len(data)]
        header[name] = {"dtype": names[str(values.dtype)], "shape": list(values.shape),
                        "data_offsets": offsets}  # fmt: skip
        content += data
    head = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head + content)
