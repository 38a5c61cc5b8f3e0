"""Folders that mlx-lm wrote open where its names and layouts aren't those of transformers."""

import json
import re
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from mlx_transformers.assembly.published import read_published
from mlx_transformers.convert.checkpoint import read_tensors, write_tensors
from mlx_transformers.layers.packed import packed_layers
from mlx_transformers.ops.packed import Packing, pack, unpack

from .published import CONFIGS, MORE, ROPED, write

Tensors = dict[str, mx.array]
HOW = Packing(8, 32)
TOKENS = mx.array([[1, 5, 200, 3, 9, 9, 7, 30]])
OSS: dict[str, Any] = {
    **ROPED,
    "head_dim": 8,
    "intermediate_size": 32,
    "num_local_experts": 3,
    "num_experts_per_tok": 2,
    "sliding_window": 4,
}


def renamed(*pairs: tuple[str, str]) -> Any:
    def run(tensors: Tensors) -> Tensors:
        found: Tensors = {}
        for name, array in tensors.items():
            for pattern, new in pairs:
                name = re.sub(pattern, new, name)
            found[name] = array
        return found

    return run


def gpt2(tensors: Tensors) -> Tensors:
    """Matrices `[out, in]`."""
    turned = {n: a.T if re.search(r"\.c_\w+\.weight$", n) else a for n, a in tensors.items()}
    found: Tensors = renamed((r"^transformer\.", "model."))(turned)
    return found


def gpt_oss(tensors: Tensors) -> Tensors:
    """Gate and value apart, matrices `[out, in]`."""
    found: Tensors = {}
    for name, array in tensors.items():
        stem, _, leaf = name.partition(".experts.")
        if not leaf:
            found[name] = array
            continue
        matrix, end = re.sub("_bias$", "", leaf), "bias" if leaf.endswith("bias") else "weight"
        rows = array.swapaxes(1, 2) if array.ndim == 3 else array
        if matrix == "down_proj":
            found[f"{stem}.experts.down_proj.{end}"] = rows
            continue
        found[f"{stem}.experts.gate_proj.{end}"] = rows[:, ::2]
        found[f"{stem}.experts.up_proj.{end}"] = rows[:, 1::2]
    return found


NAMES = {
    "gpt2": (CONFIGS["gpt2"], gpt2, 14),
    "gptj": (MORE["gptj"], renamed((r"^transformer\.", "model.")), 14),
    "gpt_neox": (
        MORE["gpt_neox"],
        renamed((r"^gpt_neox\.layers\.", "model.h."), (r"^gpt_neox\.|^(?=embed_out)", "model.")),
        14,
    ),
    "gpt_oss": (OSS, gpt_oss, 18),
    "mamba": ({**MORE["mamba"], "time_step_rank": 32}, lambda tensors: tensors, 7),
}


@pytest.mark.parametrize("family", NAMES)
def test_a_folder_of_mlx_lm_opens_plain_and_packed(family: str, tmp_path: Path) -> None:
    config, layout, n_packed = NAMES[family]
    source = write(tmp_path / "model", family, config=config)
    wanted = read_published(source).model(TOKENS)
    tensors = layout(read_tensors(source))
    write_tensors(source, tensors)
    assert mx.allclose(read_published(source).model(TOKENS), wanted, atol=1e-5)

    plain, packed = dict(tensors), dict(tensors)
    for name, array in tensors.items():
        if not name.endswith(".weight") or array.ndim < 2 or array.shape[-1] % 32:
            continue
        parts = pack(array, HOW)
        plain[name] = unpack(parts, HOW)
        module = name.removesuffix("weight")
        leaves = ("weight", "scales", "biases")
        packed |= {module + leaf: part for leaf, part in zip(leaves, parts, strict=True)}
    write_tensors(source, plain)
    wanted = read_published(source).model(TOKENS)
    write_tensors(source, packed)
    file = source / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"quantization": HOW.table()}))
    model = read_published(source).model
    assert mx.allclose(model(TOKENS), wanted, atol=1e-4)
    assert sum(1 for _ in packed_layers(model)) == n_packed
