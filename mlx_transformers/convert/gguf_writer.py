"""Writer of GGUF files, version 3: header, metadata, and tensors, some of them quantized.

Format: ggml, `docs/gguf.md`.
"""

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import mlx.core as mx
import numpy as np

from ..core.errors import ConvertError, unknown
from .gguf_blocks import BLOCK, encoded
from .gguf_file import ARRAY, MAGIC, STRING
from .gguf_types import TYPES

ALIGNMENT = 32
QUANTIZE = {"q8_0": ("Q8_0", 7), "q4_0": ("Q4_0", 2)}
"""The type of most tensors by the option's name, and its number as `general.file_type`."""
NUMBERS = {kind.name: number for number, kind in TYPES.items()}
PLAIN = {mx.float32: "F32", mx.float16: "F16"}
KEPT = ("ffn_gate_inp.", "position_embd.", "token_types.", "ssm_conv1d.")
"""Parts of the names of matrices that llama.cpp keeps in float32."""


def always_whole(name: str) -> bool:
    """Whether llama.cpp keeps a tensor in float32, whatever the type of the others."""
    return not name.endswith(".weight") or any(part in name for part in KEPT)


def types_of(tensors: Mapping[str, mx.array], quantize: str | None) -> dict[str, str]:
    """The type of each tensor of a file.

    Matrices are quantized whose rows are whole blocks. The unembedding has 8 bits at least
    (llama.cpp gives it more bits than the rest, too).

    Raises:
        ConvertError: there is no such type, or no row is a whole number of blocks.
    """
    plain = {name: PLAIN[array.dtype] for name, array in tensors.items()}
    if quantize is None:
        return plain
    if quantize not in QUANTIZE:
        raise ConvertError(unknown("type of quantized GGUF files", quantize, QUANTIZE))
    unembedding = "output.weight" if "output.weight" in tensors else "token_embd.weight"
    able = [
        name
        for name, array in tensors.items()
        if array.ndim > 1 and array.shape[-1] % BLOCK == 0 and not always_whole(name)
    ]
    if not able:
        raise ConvertError(
            f"No matrix has rows that blocks of {BLOCK} numbers divide, so {quantize} would change "
            "nothing: leave out --quantize."
        )
    usual = QUANTIZE[quantize][0]
    return plain | {name: "Q8_0" if name == unembedding else usual for name in able}


def write_file(
    path: Path,
    metadata: Mapping[str, Any],
    tensors: Mapping[str, mx.array],
    quantize: str | None = None,
) -> None:
    """Write a file.

    Args:
        path: the file.
        metadata: strings, numbers, and lists of them.
        tensors: by name, in float32 or float16.
        quantize: a key of `QUANTIZE`; None writes the tensors as they are.

    Raises:
        ConvertError: as `types_of`, or a number is beyond the range of a type.
    """
    types = types_of(tensors, quantize)
    if quantize is not None:
        metadata = {
            **metadata,
            "general.file_type": QUANTIZE[quantize][1],
            "general.quantization_version": 2,
        }
    with open(path, "wb") as file:
        file.write(MAGIC + struct.pack("<IQQ", 3, len(tensors), len(metadata)))
        for key, value in metadata.items():
            _write_string(file, key)
            _write_value(file, value)
        offset = 0
        for name, array in tensors.items():
            kind = TYPES[NUMBERS[types[name]]]
            _write_string(file, name)
            shape = tuple(reversed(array.shape))
            file.write(struct.pack(f"<I{len(shape)}Q", len(shape), *shape))
            file.write(struct.pack("<IQ", NUMBERS[kind.name], offset))
            offset = _aligned(offset + array.size // kind.block * kind.size)
        for name, array in tensors.items():
            file.write(bytes(_aligned(file.tell()) - file.tell()))
            file.write(_content(name, array, types[name]))


def _content(name: str, array: mx.array, kind: str) -> bytes:
    if kind in PLAIN.values():
        return np.array(array).tobytes()
    try:
        return encoded(array, kind).tobytes()
    except ValueError as error:
        raise ConvertError(f"The tensor {name} can't be quantized: {error}.") from error


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _write_string(file: BinaryIO, text: str) -> None:
    content = text.encode("utf-8")
    file.write(struct.pack("<Q", len(content)) + content)


def _write_value(file: BinaryIO, value: Any) -> None:
    """Write a value behind its type: lists of integers as int32, single ones as uint32."""
    if isinstance(value, list):
        of = value[0] if value else ""
        kind, code = (5, "i") if isinstance(of, int) else _kind(of)
        file.write(struct.pack("<IIQ", ARRAY, kind, len(value)))
        for each in value:
            _write_one(file, code, each)
        return
    kind, code = _kind(value)
    file.write(struct.pack("<I", kind))
    _write_one(file, code, value)


def _kind(value: Any) -> tuple[int, str]:
    if isinstance(value, str):
        return STRING, ""
    if isinstance(value, bool):
        return 7, "?"
    return (4, "I") if isinstance(value, int) else (6, "f")


def _write_one(file: BinaryIO, code: str, value: Any) -> None:
    if code:
        file.write(struct.pack(f"<{code}", value))
    else:
        _write_string(file, value)
