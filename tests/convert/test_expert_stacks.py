"""Stacks of experts in mlx-lm's folders are numbered experts, packed as the stack was."""

import mlx.core as mx
import pytest

from mlx_transformers.convert.config import HfConfig
from mlx_transformers.convert.expert_stacks import unstacked
from mlx_transformers.convert.packed import packed_tensors
from mlx_transformers.ops.packed import Packing, pack, unpack


@pytest.mark.parametrize(
    ("module", "experts"),
    [
        ("model.layers.1.mlp.switch_mlp.up_proj", "model.layers.1.mlp.experts.{}.up_proj"),
        (
            "model.layers.0.block_sparse_moe.switch_mlp.up_proj",
            "model.layers.0.block_sparse_moe.experts.{}.w3",
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
