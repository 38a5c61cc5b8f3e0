"""Scales of 8-bit floats, and shards that contradict each other."""

import json
import os
import struct
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.convert.checkpoint import read_tensors
from mlx_transformers.convert.config import HfConfig
from mlx_transformers.convert.quantized import decoded
from mlx_transformers.core.errors import ConvertError

ONE = b"\x38"  # E4M3 has a bias of 7, so that 0x38 is 1.0
DTYPES = {"F8_E4M3": 1, "F32": 4}


def write(path: Path, tensors: dict[str, tuple[str, list[int], bytes]]) -> None:
    header, at = {}, 0
    for name, (dtype, shape, content) in tensors.items():
        offsets = [at, at := at + len(content)]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
    table = json.dumps(header).encode()
    content = b"".join(content for _, _, content in tensors.values())
    path.write_bytes(struct.pack("<Q", len(table)) + table + content)


def float32(*numbers: float) -> tuple[str, list[int], bytes]:
    return "F32", [len(numbers)], np.array(numbers, "<f4").tobytes()


def config(**settings: object) -> HfConfig:
    return HfConfig({"model_type": "llama", "quantization_config": settings}, "config.json")


@pytest.mark.parametrize("scale", ["a.scale", "a.weight_scale", "a.weight_scale_inv"])
def test_scales_of_every_name_are_factors(tmp_path: Path, scale: str) -> None:
    weight = ("F8_E4M3", [2, 2], ONE * 4)
    write(tmp_path / "model.safetensors", {"a.weight": weight, scale: float32(0.5)})
    found = decoded(read_tensors(tmp_path), config(quant_method="fp8"))
    assert {name: array.tolist() for name, array in found.items()} == {"a.weight": [[0.5] * 2] * 2}


def test_an_eight_bit_weight_without_the_scale_that_others_have_is_refused(tmp_path: Path) -> None:
    weight = ("F8_E4M3", [2, 2], ONE * 4)
    tensors = {"a.weight": weight, "a.weight_scale": float32(0.5), "b.weight": weight}
    write(tmp_path / "model.safetensors", tensors)
    with pytest.raises(ConvertError, match=r"b\.weight is of 8-bit floats without a scale"):
        read_tensors(tmp_path)


def test_two_scales_of_one_weight_are_refused(tmp_path: Path) -> None:
    scales = {"a.scale": float32(0.5), "a.weight_scale": float32(0.25)}
    tensors = {"a.weight": ("F8_E4M3", [2, 2], ONE * 4), **scales}
    write(tmp_path / "model.safetensors", tensors)
    with pytest.raises(ConvertError, match=r"a\.weight has two scales"):
        read_tensors(tmp_path)


def test_more_scales_than_rows_are_refused() -> None:
    tensors = {"a.weight": mx.ones((2, 4)), "a.weight_scale_inv": mx.ones((3, 4))}
    with pytest.raises(ConvertError, match="3 rows of scales for 2 rows"):
        decoded(tensors, config())


@pytest.mark.parametrize("block", [None, [0, 2], [128], "x"])
def test_blocks_of_unknown_size_are_refused(block: object) -> None:
    tensors = {"a.weight": mx.ones((5, 5)), "a.weight_scale_inv": mx.ones((3, 3))}
    with pytest.raises(ConvertError, match="block"):
        decoded(tensors, config(**({} if block is None else {"weight_block_size": block})))


def test_a_tensor_in_two_files_has_the_same_numbers(tmp_path: Path) -> None:
    names = ["model-1.safetensors", "model-2.safetensors"]
    places = {"weight_map": {"a": names[0], "b": names[1]}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(places))
    write(tmp_path / names[0], {"a": float32(1.0)})
    write(tmp_path / names[1], {"b": float32(2.0), "a": float32(1.0)})
    assert read_tensors(tmp_path)["a"].tolist() == [1.0]
    write(tmp_path / names[1], {"b": float32(2.0), "a": float32(3.0)})
    with pytest.raises(ConvertError, match="the tensor a with other numbers"):
        read_tensors(tmp_path)


def test_pointers_and_pipes_are_named(tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(ConvertError, match="git lfs pull"):
        read_tensors(tmp_path)
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(ConvertError, match="is a pipe"):
        read_tensors(tmp_path)
