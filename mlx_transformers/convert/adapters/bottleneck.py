"""Bottleneck adapters of the library `adapters`: `adapter_config.json` and its tensors, read."""

import re
from collections.abc import Mapping
from typing import Any

import mlx.core as mx

from ...core.errors import ConvertError
from ..config import ACTIVATIONS as THEIRS
from .layout import Arrays, Opened

WEIGHTS = ("adapter.safetensors", "pytorch_adapter.safetensors")
NAMES = {
    "adapter_up.weight": "up.weight",
    "adapter_up.bias": "up.bias",
    "adapter_norm_before.weight": "before.weight",
    "adapter_norm_before.bias": "before.bias",
    "adapter_norm_after.weight": "after.weight",
    "adapter_norm_after.bias": "after.bias",
    "gate.weight": "gate.weight",
    "gate.bias": "gate.bias",
    "scaling": "factor.weight",
}
REFUSED = {
    "phm_layer": "its products of Kronecker factors (Compacter)",
    "cross_adapter": "adapters behind cross attention",
    "inv_adapter": "invertible adapters at the embeddings",
    "shared_W_phm": "shared factors (Compacter)",
}
ACTIVATIONS = {"swish": "silu", "leakyrelu": ""}
"""Names of activations that transformers doesn't use."""


def open_bottleneck(
    config: Mapping[str, Any], tensors: Mapping[str, mx.array], where: str
) -> Opened:
    """Read an adapter that the library `adapters` saved.

    Raises:
        ConvertError: an option that isn't built, or another kind of adapter.
    """
    options = config["config"]
    if "non_linearity" not in options:
        raise ConvertError(
            f"{where}: of the library adapters, bottleneck adapters are read; this one is "
            f"'{options.get('architecture', 'unknown')}'."
        )
    for key, what in REFUSED.items():
        if options.get(key):
            raise ConvertError(f"{where}: {key} = {options[key]!r}: {what} aren't built.")
    if options.get("original_ln_after") is False:
        raise ConvertError(f"{where}: original_ln_after = false isn't built.")
    weights: Arrays = {}
    places: set[str] = set()
    layers: set[int] = set()
    for name, array in tensors.items():
        match = re.fullmatch(r"(.+)\.adapters\.[^.]+\.(.+)", name) or re.fullmatch(
            r"(.+)_adapters\.adapters\.[^.]+\.(.+)", name
        )
        if match is None:
            raise ConvertError(f"{where}: the tensor {name} belongs to no bottleneck adapter.")
        residual, place, layer = _place(match[1], where)
        places.add(place)
        layers.add(layer)
        leaf = _leaf(match[2], bool(options.get("ln_before")))
        if leaf is not None:
            weights[f"{residual}.adapter.{leaf}"] = array.astype(mx.float32)
    widths = {a.shape[0] for n, a in weights.items() if n.endswith("down.weight")}
    if len(widths) > 1:
        raise ConvertError(
            f"{where}: reduction_factor = {options['reduction_factor']}: adapters of different "
            "widths "
            "aren't built."
        )
    width = next(iter(widths))
    return Opened(_table(options, width, places, sorted(layers), where), weights)


def _place(module: str, where: str) -> tuple[str, str, int]:
    """The residual connection of ours that a module of theirs is, its sublayer and its layer."""
    layer = next((int(part) for part in module.split(".") if part.isdigit()), None)
    if layer is None or "crossattention" in module.lower() or "decoder" in module:
        raise ConvertError(f"{where}: an adapter at {module} isn't built.")
    place = "mixer" if "attention" in module else "ffn"
    return f"stack.blocks.{layer}.{place}_residual", place, layer


def _leaf(name: str, normed: bool) -> str | None:
    """Our name of a tensor; None for the second name of a norm."""
    if match := re.fullmatch(r"adapter_down\.(\d)\.(weight|bias)", name):
        number = int(match[1]) - (1 if normed else 0)
        return f"down.{match[2]}" if number == 0 else None
    if name not in NAMES:
        raise ConvertError(f"The adapter's tensor {name} isn't known.")
    return NAMES[name]


def _table(
    options: Mapping[str, Any],
    width: int,
    places: set[str],
    layers: list[int],
    where: str,
) -> dict[str, Any]:
    name = str(options["non_linearity"]).lower()
    activation = ACTIVATIONS.get(name, THEIRS.get(name, ""))
    if not activation:
        raise ConvertError(f"{where}: non_linearity = '{name}' isn't built.")
    before = options.get("residual_before_ln", True)
    reads_sum = bool(options.get("original_ln_before"))
    skip = "output" if before is True else "input" if not before else "sum"
    if before == "post_add" and not reads_sum:
        skip = "output"
    table: dict[str, Any] = {
        "kind": "bottleneck",
        "width": width,
        "after": [place for place in ("mixer", "ffn") if place in places],
        "activation": activation,
        "norm_before": bool(options.get("ln_before")),
        "gate": bool(options.get("use_gating")),
        "dropout": float(options.get("dropout") or 0.0),
        "layers": layers,
    }
    scaling = options.get("scaling", 1.0)
    table["scaling"] = float(scaling) if isinstance(scaling, int | float) else scaling
    if options.get("ln_after"):
        table["norm_after"] = "sum" if options.get("adapter_residual_before_ln") else "output"
    if options.get("is_parallel"):
        return table | {"parallel": True}
    return table | {"reads": "sum" if reads_sum else "output", "skip": skip}
