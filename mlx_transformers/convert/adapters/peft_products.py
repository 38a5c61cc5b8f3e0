"""PEFT's LoHa and LoKr, read as LoRA: a product of low-rank matrices has a low rank too."""

import re
from dataclasses import replace

import mlx.core as mx

from ...core.errors import ConvertError
from .layout import Arrays
from .peft_folder import PeftFolder, of_module


def as_lora(folder: PeftFolder) -> PeftFolder:
    """Return the folder as one of LoRA, whose ranks are the products of those in the file.

    LoHa has `ΔW = s (A₁ B₁) ∘ (A₂ B₂)` (Hyeon-Woo et al. 2021, FedPara, arXiv 2108.06098,
    proposition 1); LoKr has `ΔW = s W₁ ⊗ W₂`, where W₁ and W₂ are whole or products (Yeh et al.
    2023, LyCORIS, arXiv 2309.14859, section 3); s = alpha / r.

    Raises:
        ConvertError: a module lacks a factor.
    """
    modules: dict[str, Arrays] = {}
    tensors: Arrays = {}
    for name, array in folder.tensors.items():
        match = re.fullmatch(r"(.+)\.(?:hada|lokr)_(w[12](?:_[ab])?)", name)
        if match is None:
            tensors[name] = array
        else:
            modules.setdefault(match[1], {})[match[2]] = array.astype(mx.float32)
    config = folder.config
    for module, parts in modules.items():
        try:
            (b1, a1), (b2, a2) = (_factors(parts, name) for name in ("w1", "w2"))
        except KeyError as error:
            raise ConvertError(f"{folder.where}: {module} lacks its factor {error}.") from None
        if config["peft_type"] == "LOHA":
            b = (b1[:, :, None] * b2[:, None]).flatten(1)
            a = (a1[:, None] * a2).flatten(0, 1)
        else:
            b, a = mx.kron(b1, b2), mx.kron(a1, a2)
        alpha = of_module(config, "alpha_pattern", module, config.get("alpha", 8))
        rank = of_module(config, "rank_pattern", module, config.get("r", 8))
        tensors[f"{module}.lora_A.weight"] = a
        # LoRA divides its alpha, 1 here, by the rank that the factors have
        tensors[f"{module}.lora_B.weight"] = b * (len(a) * alpha / rank)
    plain = {**config, "peft_type": "LORA", "lora_alpha": 1.0, "alpha_pattern": {}}
    return replace(folder, config=plain, tensors=tensors)


def _factors(parts: Arrays, name: str) -> tuple[mx.array, mx.array]:
    """The factors `[out, R]` and `[R, in]` of a matrix; a whole one is the larger of its own."""
    if name not in parts:
        return parts[f"{name}_a"], parts[f"{name}_b"]
    whole = parts[name]
    out, width = whole.shape
    return (mx.eye(out), whole) if out <= width else (whole, mx.eye(width))
