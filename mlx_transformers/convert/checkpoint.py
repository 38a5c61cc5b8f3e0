"""The tensors of a published folder: safetensors, one file or many. Nothing is ever unpickled."""

import json
from collections.abc import Mapping
from pathlib import Path

import mlx.core as mx

from ..core.errors import ConvertError, FormatError
from ..core.parse import read_table
from ..core.paths import shown
from .eight_bits import FLOATS, with_scales
from .safetensors import read_file, read_header, write_file

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
SHARD_BYTES = 4_000_000_000
"""The most that one written file holds."""


def read_tensors(folder: Path) -> dict[str, mx.array]:
    """Return every tensor of a folder, read when it is used.

    Raises:
        ConvertError: there is no safetensors file, a shard is missing, a file is damaged, or
            the index names a tensor that its file lacks.
    """
    files, places = _files(folder)
    tensors: dict[str, mx.array] = {}
    for file in files:
        new = read_file(file)
        for name in new.keys() & tensors.keys():
            if not _equal(new[name], tensors[name]):
                raise ConvertError(
                    f"{file} holds the tensor {name} with other numbers than another file of "
                    f"{folder}: one of the two belongs to another model. Download the folder again."
                )
        tensors |= new
    if absent := sorted(set(places) - set(tensors)):
        raise ConvertError(
            f"{folder / INDEX} names '{absent[0]}', which its file {places[absent[0]]} lacks. "
            "Download the folder again."
        )
    floats = [n for f in files for n, entry in read_header(f).items() if entry.dtype in FLOATS]
    return with_scales(tensors, floats, str(folder))


def _equal(a: mx.array, b: mx.array) -> bool:
    return a.shape == b.shape and bool(mx.array_equal(a, b, equal_nan=True))


def _files(folder: Path) -> tuple[list[Path], dict[str, str]]:
    """The safetensors files of a folder, and the file of each tensor by its index if that is read.

    A single file goes before an index.
    """
    index = folder / INDEX
    if (folder / SINGLE).is_file():
        return [folder / SINGLE], {}
    if index.is_file():
        places = _places(folder, index)
        return [folder / name for name in sorted(set(places.values()))], places
    files = sorted(folder.glob("*.safetensors"))
    if len(files) == 1:
        return files, {}
    if files:
        raise ConvertError(f"{folder} has {len(files)} safetensors files and no {INDEX}.")
    pickled = sorted([*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")])
    if pickled:
        raise ConvertError(
            f"{pickled[0]} is a pickle, which can run code when it is opened, so it isn't read. "
            "Convert it where you trust it: model = AutoModel.from_pretrained(FOLDER) and "
            "model.save_pretrained(NEW_FOLDER) in transformers write safetensors."
        )
    raise ConvertError(f"{folder} has no {SINGLE} and no {INDEX}.")


def write_tensors(folder: Path, tensors: Mapping[str, mx.array], made_for: str = "pt") -> None:
    """Write tensors as transformers does: one file, or numbered ones with an index.

    Args:
        folder: where to.
        tensors: by name.
        made_for: the library that the files name: `pt`, or `mlx`.

    Raises:
        OSError: the disk refuses.
    """
    shards: list[dict[str, mx.array]] = [{}]
    size = 0
    for name, array in sorted(tensors.items()):
        if size + array.nbytes > SHARD_BYTES and shards[-1]:
            shards.append({})
            size = 0
        shards[-1][name] = array
        size += array.nbytes
    if len(shards) == 1:
        write_file(folder / SINGLE, shards[0], made_for)
        return
    places: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        write_file(folder / file, shard, made_for)
        places |= dict.fromkeys(shard, file)
    total = sum(array.nbytes for array in tensors.values())
    table = {"metadata": {"total_size": total}, "weight_map": places}
    (folder / INDEX).write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")


def _places(folder: Path, index: Path) -> dict[str, str]:
    """The file of each tensor, by the index; every file is in the folder."""
    try:
        places = read_table(index).get("weight_map")
    except (OSError, FormatError) as error:
        raise ConvertError(f"{index} can't be read: {error}") from error
    if not isinstance(places, dict) or not all(isinstance(f, str) for f in places.values()):
        raise ConvertError(f"{index} has no 'weight_map', a table of files by tensor.")
    if not places:
        raise ConvertError(
            f"The 'weight_map' of {index} names no tensor. Download the file again, or remove it "
            "where the folder has one safetensors file."
        )
    for file in sorted(set(places.values())):
        if "/" in file or "\\" in file or not (folder / file).is_file():
            raise ConvertError(
                f"{index} names the file {shown(file)}, which is not in {folder}. Download it too."
            )
    return places
