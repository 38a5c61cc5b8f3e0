"""Safetensors files: the header is checked, and every dtype is read as numbers or refused."""

import json
import struct
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.convert.safetensors import parse_header, read_file

from .fuzz import mutations


def packed(tensors: dict[str, tuple[str, list[int], bytes]], **changes: Any) -> bytes:
    """A file with tensors given as dtype, shape and bytes."""
    header: dict[str, Any] = {}
    content = b""
    for name, (dtype, shape, data) in tensors.items():
        offsets = [len(content), len(content) + len(data)]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        content += data
    text = json.dumps(header | changes).encode()
    return struct.pack("<Q", len(text)) + text + content


def read(path: Path, content: bytes) -> dict[str, mx.array]:
    path.write_bytes(content)
    found = read_file(path)
    mx.eval(list(found.values()))
    return found


FLOATS = np.array([0.5, -2.0, 3.0], np.float32)
KNOWN = {
    "F64": FLOATS.astype("<f8").tobytes(),
    "F32": FLOATS.tobytes(),
    "F16": FLOATS.astype("<f2").tobytes(),
    "BF16": (FLOATS.view(np.uint32) >> 16).astype("<u2").tobytes(),
    # sign, exponent, mantissa: 1 4 3 with a bias of 7; 1 5 2 with a bias of 15
    "F8_E4M3": bytes([0b0_0110_000, 0b1_1000_000, 0b0_1000_100]),
    "F8_E5M2": bytes([0b0_01110_00, 0b1_10000_00, 0b0_10000_10]),
}


@pytest.mark.parametrize("dtype", KNOWN)
@pytest.mark.parametrize(
    "beside", [{}, {"b": ("F8_E5M2", [1], b"\x38"), "c": ("I64", [1], b"\0" * 8)}]
)
def test_every_float_is_read_as_its_numbers(dtype: str, beside: Any, tmp_path: Path) -> None:
    found = read(tmp_path / "x", packed({"a": (dtype, [3], KNOWN[dtype]), **beside}))
    assert found["a"].astype(mx.float32).tolist() == FLOATS.tolist()
    assert found.keys() == {"a", *beside}


def test_powers_of_two_are_read(tmp_path: Path) -> None:
    found = read(tmp_path / "x", packed({"a": ("F8_E8M0", [3], bytes([126, 127, 130]))}))
    assert found["a"].tolist() == [0.5, 1.0, 8.0]


ONE = {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]}


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ([], "not a JSON object"),
        ({"a": 3}, "no dtype"),
        ({"a": ONE | {"dtype": "F4"}}, "unknown dtype 'F4'"),
        ({"a": ONE | {"shape": [-3]}}, "aren't whole numbers"),
        ({"a": ONE | {"shape": [2**30, 2**30]}}, "isn't as long"),
        ({"a": ONE | {"shape": [2**40]}}, "aren't whole numbers"),
        ({"a": ONE | {"shape": [4]}}, "isn't as long"),
        ({"a": ONE | {"data_offsets": [4, 16]}}, "leaves a gap"),
        ({"a": ONE, "b": ONE}, "overlaps"),
        ({"a": ONE | {"shape": [2], "data_offsets": [0, 8]}}, "need 8 bytes, and it has 12"),
    ],
)
def test_headers_that_contradict_themselves_are_refused(header: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_header(json.dumps(header).encode(), 12)


def test_two_tensors_of_one_name_are_refused() -> None:
    text = json.dumps(ONE)
    with pytest.raises(ValueError, match="same name"):
        parse_header(f'{{"a": {text}, "a": {text}}}'.encode(), 12)


def test_damaged_files_are_sentences(tmp_path: Path) -> None:
    content = packed(
        {
            "a": ("F32", [2, 3], bytes(24)),
            "b.weight": ("BF16", [4], bytes(8)),
            "c": ("F8_E4M3", [5], bytes(5)),
        },
        __metadata__={"format": "pt"},
    )
    read(tmp_path / "whole", content)
    opened = 0
    for number, damaged in enumerate(mutations(content, 3000)):
        try:
            if number % 30 == 0:
                read(tmp_path / "x", damaged)
            else:
                length = struct.unpack("<Q", damaged[:8].ljust(8, b"\0"))[0]
                parse_header(damaged[8 : 8 + min(length, len(damaged))], len(damaged) - 8 - length)
            opened += 1
        except ValueError:
            continue
    assert 0 < opened < 1500
