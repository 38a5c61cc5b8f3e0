"""State spaces and DeepSeek-V3 as GGUF: names, shapes, and float32 where llama.cpp asks for it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.assembly.published import read_published, typed_model
from mlx_transformers.assembly.recipe import load_recipe
from mlx_transformers.convert.config import HfConfig
from mlx_transformers.convert.gguf import check_mixers, config_of
from mlx_transformers.convert.gguf_architectures import ARCHITECTURES
from mlx_transformers.convert.gguf_latents import split_latents
from mlx_transformers.convert.gguf_scans import MinusExp
from mlx_transformers.core.errors import ConvertError
from mlx_transformers.data.tokenizers.byte import ByteTokenizer
from mlx_transformers.verbs.export_run import exportable, write_llama_cpp
from mlx_transformers.verbs.import_run import import_run

from .published import write

RECIPES = Path(__file__).parents[2] / "recipes"
OUTER = {"token_embd.weight": (260, 32), "output_norm.weight": (32,)}
MAMBA = {
    "attn_norm.weight": (32,),
    "ssm_in.weight": (128, 32),
    "ssm_conv1d.weight": (64, 4),
    "ssm_conv1d.bias": (64,),
    "ssm_x.weight": (3 + 2 * 8, 64),
    "ssm_dt.weight": (64, 3),
    "ssm_dt.bias": (64,),
    "ssm_a": (64, 8),
    "ssm_d": (64,),
    "ssm_out.weight": (32, 64),
}
MAMBA2 = {
    "attn_norm.weight": (32,),
    "ssm_in.weight": (64 + (64 + 2 * 2 * 8) + 4, 32),
    "ssm_conv1d.weight": (64 + 2 * 2 * 8, 4),
    "ssm_conv1d.bias": (64 + 2 * 2 * 8,),
    "ssm_dt.bias": (4,),
    "ssm_a": (4, 1),
    "ssm_d": (4, 1),
    "ssm_norm.weight": (2, 32),
    "ssm_out.weight": (32, 64),
}
"""The shapes of llama.cpp's `src/models/mamba.cpp` and `mamba2.cpp`, whose axes are reversed."""


def exported(folder: Path, name: str, dtype: str | None = None, **changes: Any) -> Path:
    run = import_run(write(folder / "model", name, **changes), root=folder / "runs")
    whole = replace(exportable(run.path, dtype=dtype), tokenizer=ByteTokenizer())
    write_llama_cpp(whole, folder / "model.gguf")
    return folder / "model.gguf"


@pytest.mark.parametrize(("name", "layer"), [("mamba", MAMBA), ("mamba2", MAMBA2)])
def test_tensors_of_a_state_space_have_the_shapes_of_llama_cpp(
    name: str, layer: dict[str, tuple[int, ...]], tmp_path: Path
) -> None:
    tensors = mx.load(str(exported(tmp_path, name, "float16")))
    assert isinstance(tensors, dict)
    layers = {f"blk.{i}.{part}": shape for i in range(2) for part, shape in layer.items()}
    assert {part: array.shape for part, array in tensors.items()} == OUTER | layers
    whole = {part for part, array in tensors.items() if array.dtype == mx.float32}
    assert whole >= {
        part for part in layers if part.endswith(("ssm_a", "ssm_d", "attn_norm.weight"))
    }
    assert whole >= {part for part in layers if "conv1d" in part}
    assert tensors["blk.0.ssm_in.weight"].dtype == mx.float16


def test_decays_are_stored_as_they_are_used() -> None:
    logs = mx.random.normal((4, 3), key=mx.random.key(0))
    [decays] = MinusExp().save([logs])
    assert np.allclose(np.array(decays), -np.exp(np.array(logs)))
    [back] = MinusExp().load([decays])
    assert np.abs(np.array(back - logs)).max() < 1e-6


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("mamba", {"use_conv_bias": False}, "has use_conv_bias = True only in a mamba"),
        ("mamba", {"use_bias": True}, "has use_bias = False only in a mamba"),
        ("mamba", {"expand": 3, "intermediate_size": 96}, "has intermediate_size = 64 only"),
        ("mamba2", {"time_step_limit": [0.01, 1.0]}, "has time_step_limit = None only"),
        ("mamba2", {"expand": 1, "num_heads": 2}, "has expand = 2 only in a mamba2"),
        (
            "deepseek_v3",
            {"rope_interleave": False, "rms_norm_eps": 1e-6},
            "has rope_interleave = True only",
        ),
        ("deepseek_v3", {"rms_norm_eps": 1e-5}, "has rms_norm_eps = 1e-06 only"),
    ],
)
def test_what_llama_cpp_lacks_is_refused_by_name(
    name: str, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConvertError, match=message):
        exported(tmp_path, name, **changes)


DEEPSEEK: dict[str, Any] = {
    "embedding_length": 32,
    "block_count": 2,
    "attention.head_count": 4,
    "attention.kv_lora_rank": 16,
    "attention.key_length_mla": 12,
    "attention.value_length_mla": 8,
    "attention.layer_norm_rms_epsilon": 1e-6,
    "rope.dimension_count": 4,
    "expert_count": 4,
    "expert_gating_func": 2,
}
SCAN: dict[str, Any] = {
    "embedding_length": 32,
    "block_count": 2,
    "attention.layer_norm_rms_epsilon": 1e-5,
    "ssm.conv_kernel": 4,
    "ssm.inner_size": 64,
    "ssm.state_size": 8,
    "ssm.time_step_rank": 4,
    "ssm.group_count": 2,
}
KEYS = {"deepseek2": DEEPSEEK, "mamba2": SCAN}


def metadata(name: str, **changes: Any) -> dict[str, Any]:
    """The metadata of an architecture, without keys whose change is None."""
    keys = {key: value for key, value in {**KEYS[name], **changes}.items() if value is not None}
    return {f"{name}.{key}": value for key, value in keys.items()} | {"general.architecture": name}


def test_a_file_of_deepseek_without_keys_of_groups_has_none() -> None:
    config = config_of(metadata("deepseek2"), tied=False)
    assert config["model_type"] == "deepseek_v3"
    assert (config["n_group"], config["topk_group"], config["norm_topk_prob"]) == (1, 1, False)
    config = config_of(metadata("deepseek2", expert_gating_func=1), tied=False)
    assert config["model_type"] == "deepseek_v2"


@pytest.mark.parametrize("scores", [1, 2])
@pytest.mark.parametrize("count", [0, 1])
def test_llama_cpp_has_groups_of_experts_from_two_on(count: int, scores: int) -> None:
    groups = {"expert_group_count": count, "expert_group_used_count": count}
    without = metadata("deepseek2", expert_gating_func=scores)
    given = metadata("deepseek2", expert_gating_func=scores, **groups)
    assert config_of(given, tied=False) == config_of(without, tied=False)


@pytest.mark.parametrize(
    ("name", "key", "value", "message"),
    [
        ("deepseek2", "attention.layer_norm_rms_epsilon", 1e-5, "= 1e-05, and 1e-06 alone is"),
        ("deepseek2", "attention.layer_norm_rms_epsilon", "x", "= 'x' is text"),
        ("deepseek2", "attention.head_count", 0, "= 0 has to be a whole number of at least 1"),
        ("deepseek2", "attention.head_count", None, "which has no default"),
        ("deepseek2", "attention.key_length_mla", 4, "= 4, which has to be at least 5"),
        ("deepseek2", "expert_group_count", -1, "= -1 has to be a whole number"),
        ("mamba2", "ssm.time_step_rank", 0, "= 0 has to be a whole number of at least 1"),
        ("mamba2", "ssm.time_step_rank", None, "which has no default"),
        ("mamba2", "embedding_length", "x", "= 'x' is text"),
    ],
)
def test_a_value_that_the_architecture_cannot_have_is_named_by_its_key(
    name: str, key: str, value: Any, message: str
) -> None:
    config_of(metadata(name), tied=False)
    with pytest.raises(ConvertError) as error:
        config_of(metadata(name, **{key: value}), tied=False)
    assert f"{name}.{key}" in str(error.value)
    assert message in str(error.value)


def test_an_absent_width_of_heads_is_a_sentence() -> None:
    with pytest.raises(ConvertError, match="can't be read as a config of deepseek2"):
        config_of(metadata("deepseek2", **{"rope.dimension_count": None}), tied=False)


@pytest.mark.parametrize("shape", [(5,), (7, 5), (64, 15)])
def test_keys_and_values_of_another_shape_are_refused_by_name(shape: tuple[int, ...]) -> None:
    config = HfConfig(config_of(metadata("deepseek2"), tied=False))
    fine = {"blk.0.attn_kv_b.weight": mx.zeros((4 * (8 + 8), 16))}
    split_latents(config, fine, {})
    assert {name: array.shape for name, array in fine.items()} == {
        "blk.0.attn_k_b.weight": (4, 16, 8),
        "blk.0.attn_v_b.weight": (4, 8, 16),
    }
    with pytest.raises(ConvertError, match=r"blk.0.attn_kv_b.weight has the shape .*\[64, 16\]"):
        split_latents(config, {"blk.0.attn_kv_b.weight": mx.zeros(shape)}, {})


@pytest.mark.parametrize("name", ["rwkv4", "rwkv6", "rwkv7"])
def test_a_mixer_that_no_architecture_has_is_named(name: str) -> None:
    found = load_recipe(RECIPES / f"efficient/{name}_tiny.toml").model
    with pytest.raises(ConvertError, match=f"with the mixer '{name}' is not written as GGUF"):
        check_mixers(found.model_dump())


@pytest.mark.parametrize(
    "name", [name for found in ARCHITECTURES.values() for name in found.families]
)
def test_mixers_of_each_architecture_are_written(name: str, tmp_path: Path) -> None:
    table = read_published(write(tmp_path / "model", name)).table
    check_mixers(typed_model(table, name).model_dump())
