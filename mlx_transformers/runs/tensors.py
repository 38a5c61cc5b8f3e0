"""A tree of arrays as one safetensors file, and back: names, dtypes and empty containers exact.

The file is an ordinary one (metadata `format: mlx`), so that other tools read it: tensors are
named by their dotted path, as `mlx.utils.tree_flatten` names them. The metadata also holds the
tree's structure, since a flat list of names forgets empty containers.
"""

import hashlib
import json
import os
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_unflatten

from ..core.sync import sync_handle
from .stored import NAMES, Stored, as_bytes, in_safetensors, on_host

Tree = Any
"""Nested dicts and lists with arrays as leaves, some of which may be `Stored` in a file."""


class HashingFile:
    """A new binary file that counts and hashes what is written to it, in one pass."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "xb")  # noqa: SIM115
        self._hash = hashlib.sha256()
        self.size = 0

    def __enter__(self) -> "HashingFile":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    @property
    def sha256(self) -> str:
        """Hexadecimal digest of everything written so far."""
        return self._hash.hexdigest()

    def write(self, data: Any) -> int:
        """All of `data`, or an OSError."""
        self._file.write(data)
        self._hash.update(data)
        written = memoryview(data).nbytes
        self.size += written
        return written

    def flush_to_disk(self) -> None:
        """Wait until everything written is on the disk and not only in a cache."""
        self._file.flush()
        sync_handle(self._file.fileno())


def named_leaves(tree: Tree, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every array of the tree with its dotted path.

    Raises:
        TypeError: something else than an array, or a key that is not a string.
    """
    if isinstance(tree, (mx.array, Stored)):
        yield prefix, tree
    elif isinstance(tree, (dict, list, tuple)):
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
        for key, child in items:
            if isinstance(tree, dict) and not isinstance(key, str):
                raise TypeError(f"A tree's keys are strings; under '{prefix}' there is {key!r}.")
            yield from named_leaves(child, f"{prefix}.{key}" if prefix else str(key))
    else:
        raise TypeError(f"A tree's leaves are arrays; '{prefix}' is a {type(tree).__name__}.")


def digest(tree: Tree) -> str:
    """SHA-256 of a tree's names, shapes, dtypes and values."""
    hasher = hashlib.sha256()
    for name, leaf in named_leaves(tree):
        hasher.update(f"{name} {leaf.shape} {leaf.dtype}\n".encode())
        hasher.update(as_bytes(on_host(leaf)))
    return hasher.hexdigest()


def filled(tree: Tree, leaves: Mapping[str, Any], prefix: str = "") -> Tree:
    """The containers of a tree, empty ones too, with the leaves of these dotted paths."""
    if isinstance(tree, (mx.array, Stored)):
        return leaves[prefix]
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    children = [(k, filled(v, leaves, f"{prefix}.{k}" if prefix else str(k))) for k, v in items]
    return dict(children) if isinstance(tree, dict) else [child for _, child in children]


def write_tree(file: HashingFile, tree: Tree) -> None:
    """Write the tree as safetensors, array by array. Tuples become lists.

    Raises:
        OSError: the file could not be written.
        TypeError, ValueError: the tree has a leaf that is no array, or two leaves of one name.
    """
    leaves = list(named_leaves(tree))
    if len(dict(leaves)) != len(leaves):
        names = sorted({name for name, _ in leaves if sum(n == name for n, _ in leaves) > 1})
        raise ValueError(f"Two leaves of the tree have the same dotted path: {', '.join(names)}.")
    header: dict[str, Any] = {
        "__metadata__": {"format": "mlx", "structure": json.dumps(_structure(tree))}
    }
    end = 0
    for name, leaf in leaves:
        place = [end, end := end + leaf.nbytes]
        shape = list(leaf.shape)
        header[name] = {"dtype": NAMES[leaf.dtype], "shape": shape, "data_offsets": place}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write(struct.pack("<Q", len(text)) + text)
    for _, leaf in leaves:
        file.write(as_bytes(on_host(leaf.read() if isinstance(leaf, Stored) else leaf)))


def read_tree(path: Path, stored: bool = False) -> Tree:
    """The tree of a safetensors file, evaluated: MLX loads lazily, and the file may go away.

    A file without a structure in its metadata (another tool's) gives the tree of its names.

    Args:
        path: the file.
        stored: leave the arrays in the file, as `Stored`; of a file that this project wrote.
    """
    loaded: Any = mx.load(str(path), format="safetensors", return_metadata=True)
    arrays, metadata = loaded
    if stored:
        arrays = in_safetensors(path)
    mx.eval(arrays)
    if "structure" not in metadata:
        return tree_unflatten(list(arrays.items())) if arrays else {}
    return _fill(json.loads(metadata["structure"]), arrays)


def _structure(tree: Tree) -> Any:
    """The tree with null for each leaf."""
    if isinstance(tree, dict):
        return {key: _structure(child) for key, child in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_structure(child) for child in tree]
    return None


def _fill(structure: Any, arrays: dict[str, mx.array], prefix: str = "") -> Tree:
    """The structure with the array of its dotted path for each null."""
    if structure is None:
        return arrays[prefix]
    head = f"{prefix}." if prefix else ""
    if isinstance(structure, dict):
        return {key: _fill(child, arrays, f"{head}{key}") for key, child in structure.items()}
    return [_fill(child, arrays, f"{head}{i}") for i, child in enumerate(structure)]
