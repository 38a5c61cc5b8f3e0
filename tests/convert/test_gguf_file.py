"""GGUF files: every number of a header is checked, and blocks decode as ggml's do."""

import struct
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.convert.gguf_blocks import encode_q4_0, encode_q8_0
from mlx_transformers.convert.gguf_file import parse, read_file
from mlx_transformers.convert.gguf_types import TYPES, q4_0, q8_0
from mlx_transformers.convert.gguf_writer import write_file
from mlx_transformers.core.errors import ConvertError

from .fuzz import mutations

NUMBERS = {kind.name: number for number, kind in TYPES.items()}


def file_of(kind: str, shape: list[int], content: bytes, **changes: Any) -> bytes:
    """A file with one tensor."""
    values = {"version": 3, "tensors": 1, "keys": 1, "offset": 0, "alignment": 32} | changes
    header = b"GGUF" + struct.pack("<IQQ", values["version"], values["tensors"], values["keys"])
    header += _string("general.alignment") + struct.pack("<II", 4, values["alignment"])
    header += _string("a") + struct.pack(f"<I{len(shape)}Q", len(shape), *reversed(shape))
    header += struct.pack("<IQ", NUMBERS.get(kind, 99), values["offset"])
    return header.ljust(-(-len(header) // 32) * 32, b"\0") + content


def _string(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


def half(number: float) -> bytes:
    return np.array(number, "<f2").tobytes()


def test_what_mlx_writes_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    arrays = {"a.weight": mx.random.normal((3, 5)), "b": mx.random.normal((4,)).astype(mx.float16)}
    mx.save_gguf(str(path), arrays, {"s": "text", "l": ["a", "é"], "n": mx.array(7, mx.uint32)})
    metadata, found, none = read_file(path)
    assert not none
    assert metadata == {"s": "text", "l": ["a", "é"], "n": 7}
    assert all(mx.array_equal(found[name], array) for name, array in arrays.items())


SEVEN = bytes([0x21] * 16)
"""16 bytes whose low halves are 1 and high ones 2."""
BLOCKS = {
    "Q4_0": (half(2) + SEVEN, [2 * (1 - 8)] * 16 + [2 * (2 - 8)] * 16),
    "Q4_1": (half(2) + half(0.5) + SEVEN, [2.5] * 16 + [4.5] * 16),
    "Q5_0": (half(2) + b"\1\0\0\0" + SEVEN, [2.0] + [-30.0] * 15 + [-28.0] * 16),
    "Q5_1": (half(2) + half(1) + b"\0\0\1\0" + SEVEN, [3.0] * 16 + [37.0] + [5.0] * 15),
    "Q8_0": (half(0.5) + bytes([0xFE] * 32), [-1.0] * 32),
    # scales 1, minima 2 in the first half; in the second 3 and 4
    "Q4_K": (
        half(1) + half(0.5) + bytes([1] * 4 + [2] * 4 + [0x43] * 4) + bytes([0x21] * 128),
        ([1 - 1.0] * 32 + [2 - 1.0] * 32) * 2 + ([3 - 2.0] * 32 + [6 - 2.0] * 32) * 2,
    ),
    "Q5_K": (
        half(1)
        + half(0)
        + bytes([1] * 4 + [0] * 4 + [1] * 4)
        + bytes([1] * 32)
        + bytes([0x21] * 128),
        [17.0] * 32 + [2.0] * 32 + ([1.0] * 32 + [2.0] * 32) * 3,
    ),
    "Q6_K": (
        bytes([0x21] * 128) + bytes([0b01_00_00_10] * 64) + bytes([1] * 8 + [2] * 8) + half(2),
        [
            2.0 * s * q
            for s in (1, 2)
            for q in (33 - 32, 1 - 32, 2 - 32, 18 - 32)
            for _ in range(32)
        ],
    ),
}


@pytest.mark.parametrize("kind", BLOCKS)
def test_blocks_decode_as_those_of_ggml(kind: str, tmp_path: Path) -> None:
    content, numbers = BLOCKS[kind]
    path = tmp_path / "x.gguf"
    path.write_bytes(file_of(kind, [2, len(numbers)], 2 * content))
    _, found, packed = read_file(path, packed=True)
    assert found["a"].tolist() == [numbers, numbers]
    assert ("a" in packed) == (kind in ("Q4_0", "Q4_1", "Q8_0"))
    assert all(mx.array_equal(t.plain(), found[name]) for name, t in packed.items())


def test_every_type_that_is_read_has_a_test() -> None:
    assert BLOCKS.keys() == {kind.name for kind in TYPES.values() if kind.decode}


def test_types_that_are_not_decoded_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(file_of("IQ2_XS", [256], bytes(74)))
    with pytest.raises(ConvertError, match="'a' for one, are of the type IQ2_XS"):
        read_file(path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"version": 1}, "version is 1"),
        ({"tensors": 10**6}, "1,000,000 tensors"),
        ({"tensors": 2}, "it ends before|axes|bytes"),
        ({"keys": 0}, "has an axis of"),
        ({"keys": 2**63}, "announces"),
        ({"alignment": 0}, "alignment is 0"),
        ({"alignment": 48}, "alignment is 48"),
        ({"offset": 32}, "outside of the file"),
        ({"offset": 4}, "not on its grid"),
    ],
)
def test_headers_that_contradict_themselves_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse(file_of("F32", [2, 3], bytes(24), **changes))


@pytest.mark.parametrize("shape", [[2**40, 2**40], [3, 7], [1] * 5])
def test_shapes_have_to_fit_the_file(shape: list[int]) -> None:
    with pytest.raises(ValueError, match=r"outside of the file|axes|axis"):
        parse(file_of("F32", shape, bytes(24)))


def test_damaged_files_are_sentences(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    arrays = {f"blk.{i}.weight": mx.ones((2, 32)) for i in range(3)}
    tokens = ["<s>", "a", "b c"]
    metadata = {"general.architecture": "llama", "tokenizer.ggml.tokens": tokens}
    mx.save_gguf(str(path), arrays, metadata | {"llama.block_count": mx.array(3, mx.uint32)})
    content = path.read_bytes()
    opened = 0
    for number, damaged in enumerate(mutations(content, 3000, seed=1)):
        try:
            if number % 30:
                parse(damaged)
            else:
                path.write_bytes(damaged)
                read_file(path)
            opened += 1
        except ValueError:
            continue
    assert 0 < opened < 2500


def test_numbers_of_blocks_are_rounded_as_ggml_does() -> None:
    """`d = max |x| / 127` and `d = m / -8`, m the number of largest magnitude, as float16."""
    x = np.random.default_rng(0).normal(size=(64, 32)).astype(np.float32)
    x[0] = 0
    d = (np.abs(x).max(axis=1, keepdims=True) / 127).astype(np.float16)
    assert np.array_equal(encode_q8_0(x)[:, :2].view("<f2"), d)
    assert np.all(np.abs(q8_0(encode_q8_0(x)) - x) <= 0.57 * d + 1e-6)  # d is a float16
    largest = x[np.arange(64), np.abs(x).argmax(axis=1)][:, None]
    d = (largest / -8).astype(np.float16)
    assert np.array_equal(encode_q4_0(x)[:, :2].view("<f2"), d)
    # 16 steps from -8 d to 7 d: what lies beyond the last is a whole step away
    error = np.abs(q4_0(encode_q4_0(x)) - x)
    assert np.all(
        error <= np.abs(d) * np.where(x * np.sign(d) > 7.5 * np.abs(d), 1.01, 0.51) + 1e-6
    )


@pytest.mark.parametrize(("encode", "decode", "low", "high"), [
    (encode_q8_0, q8_0, -127, 127),
    (encode_q4_0, q4_0, -8, 7),
])  # fmt: skip
def test_blocks_that_hold_their_numbers_give_them_back(
    encode: Any, decode: Any, low: int, high: int
) -> None:
    q = np.random.default_rng(0).integers(low, high + 1, size=(8, 32)).astype(np.float32)
    q[:, 3] = low
    assert np.array_equal(decode(encode(q / 2)), q / 2)


def test_rounding_goes_away_from_zero_at_ties_and_nibbles_lie_16_apart() -> None:
    x = np.zeros((1, 32), np.float32)
    x[0, :3] = 127, 2.5, -2.5
    assert encode_q8_0(x)[0, 2:5].view(np.int8).tolist() == [127, 3, -3]
    x[0, :] = 0
    x[0, 0], x[0, 16] = -8, 3
    assert encode_q4_0(x)[0, 2:4].tolist() == [0 | 11 << 4, 8 | 8 << 4]


def test_written_files_are_read_back_and_by_mlx(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    mx.random.seed(0)
    arrays = {
        "token_embd.weight": mx.random.normal((5, 64)),
        "blk.0.attn_q.weight": mx.random.normal((3, 32)),
        "blk.0.ffn_gate_inp.weight": mx.random.normal((4, 32)),
        "blk.0.attn_norm.weight": mx.random.normal((32,)),
        "blk.0.odd.weight": mx.random.normal((2, 20)).astype(mx.float16),
    }
    told = {"s": "é", "n": 7, "x": 0.5, "yes": True, "l": ["a"], "k": [1, -2], "f": [0.25]}
    write_file(path, told, arrays, "q4_0")
    metadata, found, packed = read_file(path, packed=True)
    kind = {"general.file_type": 2, "general.quantization_version": 2}
    assert metadata == told | kind
    assert packed.keys() == {"token_embd.weight", "blk.0.attn_q.weight"}
    assert packed["token_embd.weight"].how.bits == 8, "it is the unembedding too"
    for name in arrays.keys() - packed.keys():
        assert mx.array_equal(found[name], arrays[name])
    theirs = mx.load(str(path))
    name = "blk.0.attn_q.weight"
    words, scales = theirs[name], theirs["blk.0.attn_q.scales"]
    assert mx.array_equal(words, packed[name].parts[0])
    assert mx.array_equal(scales, packed[name].parts[1])


def test_what_can_not_be_quantized_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    with pytest.raises(ConvertError, match="blocks of 32 numbers"):
        write_file(path, {}, {"a.weight": mx.ones((2, 20))}, "q8_0")
    with pytest.raises(ConvertError, match=r"a\.weight can't be quantized: numbers up to 1e\+08"):
        write_file(path, {}, {"a.weight": mx.full((2, 32), 1e8)}, "q8_0")
    with pytest.raises(ConvertError, match="Unknown type of quantized GGUF files 'q4_1'"):
        write_file(path, {}, {"a.weight": mx.ones((2, 32))}, "q4_1")
