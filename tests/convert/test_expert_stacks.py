"""Stacks of experts in mlx-lm's folders are numbered experts, packed as the stack was."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import pytest

from mlx_transformers.assembly.published import read_published
from mlx_transformers.convert.checkpoint import read_tensors, write_tensors
from mlx_transformers.convert.config import HfConfig
from mlx_transformers.convert.expert_stacks import unstacked
from mlx_transformers.convert.families.lfm2_moe import dense_start
from mlx_transformers.convert.packed import packed_tensors
from mlx_transformers.core.errors import ConvertError
from mlx_transformers.ops.packed import Packing, pack, unpack

from .published import MOE, ROPED, write

LFM2_NAMES = {"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}
HYBRID: dict[str, Any] = {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1}
SPARSE: dict[str, Any] = {"num_shared_experts": 1, "mlp_layer_types": ["dense", "sparse"]}


@pytest.mark.parametrize(
    ("module", "experts"),
    [
        ("model.layers.1.mlp.switch_mlp.up_proj", "model.layers.1.mlp.experts.{}.up_proj"),
        (
            "model.layers.0.block_sparse_moe.switch_mlp.up_proj",
            "model.layers.0.block_sparse_moe.experts.{}.up_proj",
        ),
    ],
)
def test_a_stack_becomes_its_experts_with_its_own_packing(module: str, experts: str) -> None:
    how = Packing(8, 32)
    weight = mx.random.normal((3, 16, 64))
    parts = pack(weight, how)
    leaves = zip(("weight", "scales", "biases"), parts, strict=True)
    tensors = {f"{module}.{leaf}": part for leaf, part in leaves}
    usual = {"group_size": 64, "bits": 4}
    config = HfConfig({"quantization": usual | {module: how.table()}})
    found = unstacked(tensors | {"model.norm.weight": mx.ones(4)}, config)
    assert len(found) == 10
    packed = packed_tensors(found, config.data["quantization"])
    for number in range(3):
        own = packed[f"{experts.format(number)}.weight"]
        assert own.how == how
        assert mx.array_equal(own.plain(), unpack(parts, how)[number])


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("lfm2_moe", {**ROPED, **MOE, **HYBRID}),
        ("exaone_moe", {**ROPED, **MOE, **SPARSE, "sliding_window": 6, "n_group": 1}),
        ("mixtral", {**ROPED, "num_local_experts": 4, "num_experts_per_tok": 2}),
    ],
)
def test_folders_of_mlx_lm_open(name: str, config: dict[str, Any], tmp_path: Path) -> None:
    source = write(tmp_path / "model", name, config=config)
    tokens = mx.array([[1, 5, 200, 3, 9, 9, 7, 30]])
    wanted = read_published(source).model(tokens)
    write_tensors(source, as_mlx_lm(read_tensors(source)))
    assert "switch_mlp" in json.dumps([*read_tensors(source)])
    assert mx.array_equal(read_published(source).model(tokens), wanted)


def test_stacks_of_granite_are_refused() -> None:
    stack = {"model.layers.0.block_sparse_moe.switch_mlp.up_proj.weight": mx.ones((2, 3, 4))}
    with pytest.raises(ConvertError, match="a stack as mlx-lm writes it"):
        unstacked(stack, HfConfig({"model_type": "granitemoe"}))


def test_an_lfm2_moe_without_experts_is_refused() -> None:
    view: Any = SimpleNamespace(layers=[{"ffn": {"kind": "glu"}}])
    with pytest.raises(ConvertError, match="No layer has experts"):
        dense_start(view)


def as_mlx_lm(tensors: dict[str, mx.array]) -> dict[str, mx.array]:
    """Tensors as mlx-lm names and lays them out."""
    found: dict[str, mx.array] = {}
    stacks: dict[str, list[mx.array]] = {}
    for name, array in tensors.items():
        parts = [LFM2_NAMES.get(part, part) for part in name.split(".")]
        if "experts" in parts:
            at = parts.index("experts")
            stacks.setdefault(".".join([*parts[:at], "switch_mlp", *parts[at + 2 :]]), []).append(
                array
            )
            continue
        new = ".".join(parts).replace("mlp.e_score", "mlp.gate.e_score")
        found[new] = array.swapaxes(1, 2) if new.endswith("conv.conv.weight") else array
    return found | {name: mx.stack(arrays) for name, arrays in stacks.items()}


def test_stacks_of_gate_and_up_together_become_numbered_experts() -> None:
    both, down = mx.random.normal((3, 8, 6)), mx.random.normal((3, 6, 4))
    stacks = {"m.mlp.experts.gate_up_proj": both, "m.mlp.experts.down_proj": down}
    found = unstacked(stacks, HfConfig({"model_type": "qwen3_5_moe_text"}))
    assert len(found) == 9
    for number in range(3):
        expert = f"m.mlp.experts.{number}"
        assert mx.array_equal(found[f"{expert}.gate_proj.weight"], both[number, :4])
        assert mx.array_equal(found[f"{expert}.up_proj.weight"], both[number, 4:])
        assert mx.array_equal(found[f"{expert}.down_proj.weight"], down[number])
    assert unstacked(stacks, HfConfig({"model_type": "gpt_oss"})) == stacks
