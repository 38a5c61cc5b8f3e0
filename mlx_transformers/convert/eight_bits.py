"""The scales of 8-bit floats in published files: one name for them, and none may be missing."""

from collections.abc import Collection, Mapping

import mlx.core as mx

from ..core.errors import ConvertError

FLOATS = ("F8_E4M3", "F8_E5M2")


def with_scales(
    tensors: Mapping[str, mx.array], floats: Collection[str], where: str
) -> dict[str, mx.array]:
    """Return tensors with `MODULE.scale`, beside 8-bit floats, called `MODULE.weight_scale`.

    Args:
        tensors: by published name.
        floats: names of the tensors that the files store as 8-bit floats.
        where: their folder, for messages.

    Raises:
        ConvertError: some 8-bit weights have scales and others have none, or one has two.
    """
    plain = {f"{name.removesuffix('weight')}scale": name for name in floats if _weight(name)}
    if twice := [name for name in tensors if name in plain and f"{plain[name]}_scale" in tensors]:
        raise ConvertError(
            f"{where}: the 8-bit tensor {plain[twice[0]]} has two scales, {twice[0]} and "
            f"{plain[twice[0]]}_scale, and they can't be distinguished. Remove the one that "
            "doesn't belong to it."
        )
    renamed = {
        f"{plain[name]}_scale" if name in plain else name: array for name, array in tensors.items()
    }
    endings = ("_scale", "_scale_inv")
    bare = [n for n in sorted(floats) if _weight(n) and not any(n + e in renamed for e in endings)]
    if bare and any(name + ending in renamed for name in floats for ending in endings):
        raise ConvertError(
            f"{where}: the tensor {bare[0]} is of 8-bit floats without a scale, which others of "
            f"these files have ({len(bare)} in all lack it). Download the files again."
        )
    return renamed


def _weight(name: str) -> bool:
    return name.endswith(".weight")
