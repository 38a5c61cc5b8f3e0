"""Decodes quantized tensors of published files into plain weights by the scales beside them.

Decoded: 8-bit floats and integers with `weight_scale_inv` (DeepSeek, by blocks), `weight_scale`
(compressed-tensors, FBGEMM: by tensor or by row) or `SCB` (bitsandbytes' LLM.int8), MLX's packed
matrices, and those of GPTQ, AWQ and MXFP4 (integer_files.py). Others are refused by name.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import mlx.core as mx

from ..core.errors import ConvertError
from .config import STORAGE, HfConfig
from .integer_files import Tensors, decode_integers, decode_mxfp4
from .packed import PackedTensor, packed_tensors, without_parts

SCALE = re.compile(r"(?P<weight>.*)_scale(_inv)?")
ACTIVATIONS = re.compile(r"\.(input|output|activation|k|v|q|k_proj|v_proj)(\.output)?_scale(_ub)?$")
"""Scales of activations: the plain model computes those in full precision."""
PACKED = {
    "GPTQ": re.compile(r"\.(qweight|g_idx)$"),
    "AWQ": re.compile(r"\.qzeros$"),
    "bitsandbytes 4 bits": re.compile(r"\.weight\.(absmax|quant_state\..*|quant_map)$"),
    "compressed-tensors": re.compile(r"\.weight_(packed|shape)$"),
    "MXFP4": re.compile(r"_blocks$"),
    "HQQ": re.compile(r"\.W_q$"),
    "quanto": re.compile(r"\.weight\._(data|scale)$"),
}
"""Packings by the names of their tensors: refused where any is left after decoding."""
BLOCK = 128
"""Rows and columns of a block where the config doesn't say: DeepSeek's."""
CURE = (
    "Take the unquantized model, or load this one in transformers, call model.dequantize() and "
    "model.save_pretrained(NEW_FOLDER), and import the new folder."
)


def decoded(tensors: Mapping[str, mx.array], config: HfConfig) -> Tensors:
    """Return tensors with the quantized ones decoded; the config's tables on that are removed.

    Args:
        tensors: by published name, 8-bit floats as bfloat16.
        config: their config, which may say how they are quantized.

    Raises:
        ConvertError: a packing that isn't decoded here; names it, a tensor and its dtype.
    """
    settings = [config.data[key] for key in STORAGE if config.data.get(key)]
    method = next((str(s.get("quant_method", "")) for s in settings if isinstance(s, dict)), "")
    out = {name: array for name, array in tensors.items() if not ACTIVATIONS.search(name)}
    out = without_parts(out, packed_by_mlx(out, config))
    decode_mxfp4(out)
    decode_integers(out, next((s for s in settings if isinstance(s, dict)), {}))
    _refuse_packed(out, method, config.where)
    _decode_scaled(out, settings)
    _decode_int8(out)
    for name, array in out.items():
        if name.endswith("weight") and not mx.issubdtype(array.dtype, mx.floating):
            how = f" (quant_method '{method}')" if method else ""
            raise ConvertError(
                f"{config.where}: the tensor {name} is {_dtype(array)} without scales that are "
                f"known here{how}; weights are floats. {CURE}"
            )
    for key in STORAGE:
        config.data.pop(key, None)
    return out


def rescaled(weight: mx.array, scale: mx.array, block: Sequence[int] | None = None) -> mx.array:
    """Return `weight * scale` in float32, the scale repeated over the blocks that it belongs to.

    Args:
        weight: [..., out, in].
        scale: one number, one per row ([out] or [out, 1]), or one per block of the last two axes.
        block: the size of the blocks; None takes DeepSeek's, or what divides the weight evenly.

    Raises:
        ValueError: the shapes don't fit.
    """
    weight, scale = weight.astype(mx.float32), scale.astype(mx.float32)
    if scale.size == 1:
        return weight * scale.reshape(())
    if scale.ndim == weight.ndim - 1 and scale.shape == weight.shape[:-1]:
        scale = scale[..., None]
    if scale.ndim != weight.ndim or scale.shape[:-2] != weight.shape[:-2]:
        raise ValueError(f"a scale {list(scale.shape)} doesn't fit a weight {list(weight.shape)}")
    for axis in (-2, -1):
        have, need = scale.shape[axis], weight.shape[axis]
        if have in (1, need):
            continue
        if have > need:
            lines = "columns" if axis == -1 else "rows"
            raise ValueError(
                f"the file has {have} {lines} of scales for {need} {lines} of the weight: they "
                "belong to another tensor. Download the folder again"
            )
        size = block[axis] if block else BLOCK if -(-need // BLOCK) == have else need // have
        if -(-need // size) != have:
            raise ValueError(
                f"a scale {list(scale.shape)} doesn't fit blocks of {size} in a weight "
                f"{list(weight.shape)}"
            )
        scale = mx.repeat(scale, size, axis=axis)
        scale = mx.split(scale, [need], axis=axis)[0]
    return weight * scale


def _decode_scaled(tensors: Tensors, settings: list[Any]) -> None:
    """Decode weights with `_scale` or `_scale_inv` beside them: both are factors."""
    block = next((s.get("weight_block_size") for s in settings if isinstance(s, dict)), None)
    if block is not None and not _is_block(block):
        raise ConvertError(
            f"quantization_config has weight_block_size = {block!r}, which has to be two sizes, "
            "of rows and columns. Take config.json from where the weights come from."
        )
    for name in list(tensors):
        match = SCALE.fullmatch(name)
        if match is None or match["weight"] not in tensors:
            continue
        weight = match["weight"]
        zero = tensors.pop(f"{weight}_zero_point", None)
        plain = tensors[weight] if zero is None else _less(tensors[weight], zero)
        tensors[weight] = _rescaled(weight, plain, tensors.pop(name), block)


def _is_block(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in value)
    )


def _decode_int8(tensors: Tensors) -> None:
    """Decode LLM.int8 matrices: integers with the largest magnitude of each row (`SCB`)."""
    for name in [name for name in tensors if name.endswith(".SCB")]:
        weight = f"{name.removesuffix('SCB')}weight"
        if weight in tensors:
            scale = tensors.pop(name).astype(mx.float32) / 127
            tensors[weight] = _rescaled(weight, tensors[weight], scale)
        tensors.pop(f"{weight}_format", None)


def packed_by_mlx(tensors: Mapping[str, mx.array], config: HfConfig) -> dict[str, PackedTensor]:
    """Return the weights that MLX packed, by name, before `decoded` drops the config's tables.

    Raises:
        ConvertError: a weight isn't packed as the config says.
    """
    settings = [config.data[key] for key in STORAGE if isinstance(config.data.get(key), dict)]
    return packed_tensors(tensors, settings[0] if settings else {})


def _refuse_packed(tensors: Tensors, method: str, where: str) -> None:
    for packing, pattern in PACKED.items():
        packed = next((name for name in tensors if pattern.search(name)), None)
        if packed is not None:
            raise ConvertError(
                f"{where}: the tensor {packed} ({_dtype(tensors[packed])}) is packed as "
                f"{method or packing}, which isn't decoded here. {CURE}"
            )


def _rescaled(
    name: str, weight: mx.array, scale: mx.array, block: Sequence[int] | None = None
) -> mx.array:
    try:
        return rescaled(weight, scale, block)
    except ValueError as error:
        raise ConvertError(f"The tensor {name} can't be decoded: {error}.") from error


def _less(weight: mx.array, zero: mx.array) -> mx.array:
    zero = zero.astype(mx.float32)
    return weight.astype(mx.float32) - (zero if zero.ndim == weight.ndim else zero[..., None])


def _dtype(array: mx.array) -> str:
    return str(array.dtype).removeprefix("mlx.core.")
