"""Decodes matrices of GPTQ, AWQ and MXFP4 checkpoints in Hugging Face's layout.

- GPTQ (AutoGPTQ): `qweight` holds codes of `[in, out]` along the inputs, `qzeros` zero points less
  one along the outputs, `scales [groups, out]`, and `g_idx [in]` the group of each input.
- AWQ (AutoAWQ): codes along the outputs, eight of 4 bits by turns 0, 4, 1, 5, 2, 6, 3, 7.
- MXFP4 (gpt-oss): `_blocks [E, out, in / 32, 16]`, two 4-bit floats a byte; `_scales` powers of 2.
"""

from collections.abc import Mapping
from typing import Any

import mlx.core as mx
import numpy as np

from ..core.errors import ConvertError
from ..ops.packed import Packing, unpack

Tensors = dict[str, mx.array]
AWQ_ORDER = (0, 4, 1, 5, 2, 6, 3, 7)
"""Place of each of eight outputs in a 32-bit word."""


def decode_mxfp4(tensors: Tensors) -> None:
    """Replace blocks and scales of experts by float matrices, `[E, in, out]`, in place."""
    for name in [n for n in tensors if n.endswith("_blocks")]:
        module = name.removesuffix("_blocks")
        scales = tensors.get(f"{module}_scales")
        if scales is None or tensors[name].dtype != mx.uint8:
            continue
        blocks = tensors.pop(name)
        packed = mx.contiguous(blocks.reshape(*scales.shape[:-1], -1)).view(mx.uint32)
        weight = unpack([packed, tensors.pop(f"{module}_scales")], Packing(4, 32, "mxfp4"))
        tensors[module] = weight.swapaxes(-1, -2)


def decode_integers(tensors: Tensors, settings: Mapping[str, Any]) -> None:
    """Replace the packed matrices of a GPTQ or AWQ checkpoint by float ones `[out, in]`, in place.

    Args:
        tensors: those of the file.
        settings: the table `quantization_config` of its config.

    Raises:
        ConvertError: the sizes don't go together.
    """
    method = str(settings.get("quant_method", ""))
    if method not in ("gptq", "awq"):
        return
    bits = int(settings.get("bits") or settings.get("w_bit") or 4)
    for name in [n for n in tensors if n.endswith(".qweight")]:
        module = name.removesuffix(".qweight")
        names = [f"{module}.{part}" for part in ("qweight", "qzeros", "scales")]
        if any(tensor not in tensors for tensor in names):
            continue
        arrays = [np.array(tensors[tensor]) for tensor in names[:2]]
        arrays.append(np.array(tensors[names[2]].astype(mx.float32)))
        index = tensors.get(f"{module}.g_idx")
        try:
            weight = (_gptq if method == "gptq" else _awq)(arrays, bits, settings, index)
        except (ValueError, IndexError) as error:
            raise ConvertError(
                f"The tensor {name} can't be decoded as {method} with {bits} bits: {error}."
            ) from error
        for part in ("qweight", "qzeros", "scales", "g_idx"):
            tensors.pop(f"{module}.{part}", None)
        tensors[f"{module}.weight"] = mx.array(np.ascontiguousarray(weight.T, np.float32))


def _gptq(
    arrays: list[np.ndarray], bits: int, settings: Mapping[str, Any], index: mx.array | None
) -> np.ndarray:
    words, zero_words, scales = arrays
    codes = _codes(words.T, bits).T
    zeros = _codes(zero_words, bits).astype(np.int32)
    if settings.get("checkpoint_format") != "gptq_v2":
        zeros = zeros + 1
    size = len(codes) // len(scales)
    groups = np.arange(len(codes)) // size if index is None else np.array(index).astype(np.int64)
    weight: np.ndarray = scales[groups] * (codes.astype(np.int32) - zeros[groups])
    return weight


def _awq(
    arrays: list[np.ndarray], bits: int, settings: Mapping[str, Any], index: mx.array | None
) -> np.ndarray:
    words, zero_words, scales = arrays
    if bits != 4:
        raise ValueError("AWQ files of 4 bits are read")
    codes, zeros = (_in_turn(_codes(packed, bits)) for packed in (words, zero_words))
    groups = np.arange(len(codes)) // (len(codes) // len(scales))
    weight: np.ndarray = scales[groups] * (codes - zeros[groups])
    return weight


def _in_turn(codes: np.ndarray) -> np.ndarray:
    """Codes in the order of the outputs."""
    return codes.reshape(len(codes), -1, 8)[..., AWQ_ORDER].reshape(codes.shape).astype(np.int32)


def _codes(packed: np.ndarray, bits: int) -> np.ndarray:
    """Codes of rows of 32-bit words, lowest bits first; codes of 3 bits straddle words."""
    data = np.ascontiguousarray(packed).view(np.uint8)
    stream = np.unpackbits(data, axis=-1, bitorder="little")
    stream = stream.reshape(len(packed), -1, bits)
    codes: np.ndarray = (stream << np.arange(bits, dtype=np.uint8)).sum(axis=-1, dtype=np.uint8)
    return codes
