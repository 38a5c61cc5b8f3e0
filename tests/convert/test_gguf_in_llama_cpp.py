"""GGUF files as llama.cpp reads them: what it asks for, and what it takes for granted.

Each case was found by running it (tools/peer_llama_cpp.py); its sources are named beside the code.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.assembly.published import read_published, read_source
from mlx_transformers.convert.config import HfConfig
from mlx_transformers.convert.gguf import as_gguf, config_of, metadata_of, read_gguf
from mlx_transformers.convert.gguf_factors import factors, scaling
from mlx_transformers.convert.gguf_file import read_file
from mlx_transformers.convert.gguf_writer import write_file
from mlx_transformers.core.errors import ConvertError
from mlx_transformers.data.tokenizers.byte import ByteTokenizer
from mlx_transformers.verbs.export_run import exportable, write_llama_cpp
from mlx_transformers.verbs.import_run import import_run

from .published import CONFIGS, GEMMA, MORE, write


def config(name: str, **changes: Any) -> dict[str, Any]:
    own = (CONFIGS | MORE | GEMMA)[name]
    return {"model_type": name, "tie_word_embeddings": True, **own, **changes}


def check(name: str, **changes: Any) -> None:
    as_gguf(HfConfig(config(name, **changes)))


def test_numbers_that_are_read_as_floats_are_never_whole() -> None:
    scales = dict.fromkeys(("attention_multiplier", "embedding_multiplier", "logits_scaling"), 2)
    found = metadata_of(config("granite", **scales, residual_multiplier=1, rms_norm_eps=1))
    keys = ("attention.scale", "embedding_scale", "logit_scale", "residual_scale")
    for key in (*keys, "attention.layer_norm_rms_epsilon", "rope.freq_base"):
        assert isinstance(found[f"granite.{key}"], float), key
    assert isinstance(metadata_of(config("olmo", clip_qkv=8))["olmo.attention.clamp_kqv"], float)
    assert isinstance(found["granite.block_count"], int)


def test_a_width_that_the_config_leaves_open_is_written(tmp_path: Path) -> None:
    run = import_run(write(tmp_path / "model", "gpt2", n_inner=None), root=tmp_path / "runs")
    whole = replace(exportable(run.path), tokenizer=ByteTokenizer())
    write_llama_cpp(whole, tmp_path / "model.gguf")
    assert read_file(tmp_path / "model.gguf")[0]["gpt2.feed_forward_length"] == 128


def test_scores_of_the_largest_gemmas_are_divided_by_the_share_of_a_head() -> None:
    for name, layers in (("gemma2", 46), ("gemma3_text", 62)):
        shape = {"hidden_size": 80, "num_attention_heads": 4, "head_dim": 12}
        shape |= {"num_hidden_layers": layers, "layer_types": None, "attention_bias": False}
        check(name, **shape, query_pre_attn_scalar=20, attn_logit_softcapping=50.0)
        with pytest.raises(ConvertError, match="query_pre_attn_scalar = 20 only"):
            check(name, **shape, query_pre_attn_scalar=12, attn_logit_softcapping=50.0)


def test_caps_that_gemma_2_lacks_are_told() -> None:
    shape = {"query_pre_attn_scalar": 12, "attention_bias": False}
    own = config("gemma2", **shape, attn_logit_softcapping=50.0, final_logit_softcapping=None)
    found = metadata_of(own)
    assert found["gemma2.final_logit_softcapping"] == 0.0  # its default is 30 there
    assert config_of(found, True)["final_logit_softcapping"] is None
    with pytest.raises(ConvertError, match="has no attn_logit_softcapping"):
        check("gemma2", **shape, attn_logit_softcapping=None)


def test_gemma_3_has_a_base_of_its_own_in_layers_with_a_window() -> None:
    own = config("gemma3_text", num_hidden_layers=6, rope_local_base_freq=700.0)
    found = metadata_of(own)
    assert found["gemma3.rope.freq_base_swa"] == 700.0
    assert config_of(found, True)["rope_local_base_freq"] == 700.0
    own.pop("rope_local_base_freq")
    bases = {"sliding_attention": {"rope_theta": 80.0}, "full_attention": {"rope_theta": 9.0}}
    found = metadata_of(own | {"rope_parameters": bases})
    assert found["gemma3.rope.freq_base_swa"] == 80.0


def test_queries_of_full_rank_are_a_rank_of_zero() -> None:
    own = config("deepseek_v2", q_lora_rank=None)
    found = metadata_of(own)
    assert found["deepseek2.attention.q_lora_rank"] == 0
    assert config_of(found, True)["q_lora_rank"] is None
    lite = {"num_hidden_layers": 27}
    check("deepseek_v2", **lite, q_lora_rank=None)
    with pytest.raises(ConvertError, match="in a deepseek_v2 of 27 layers"):
        check("deepseek_v2", **lite)
    with pytest.raises(ConvertError, match="shared experts in every deepseek_v2"):
        check("deepseek_v2", n_shared_experts=None)


def test_an_olmoe_has_a_key_for_each_head_there() -> None:
    check("olmoe", attention_bias=False, num_key_value_heads=4)
    with pytest.raises(ConvertError, match="this one has 2 for 4"):
        check("olmoe", attention_bias=False)


def test_an_exaone_of_64_layers_has_a_window_there() -> None:
    check("exaone4", num_hidden_layers=63)
    with pytest.raises(ConvertError, match="of 64 layers a window"):
        check("exaone4", num_hidden_layers=64)


LLAMA31 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}


@pytest.mark.parametrize("name", ["llama", "exaone4"])
def test_the_scaling_of_llama_3_1_is_a_tensor(name: str, tmp_path: Path) -> None:
    rope = LLAMA31 | {"original_max_position_embeddings": 64}
    source = write(tmp_path / "model", name, rope_scaling=rope, rope_theta=100.0)
    whole = replace(
        exportable(import_run(source, root=tmp_path / "runs").path), tokenizer=ByteTokenizer()
    )
    path = tmp_path / "model.gguf"
    write_llama_cpp(whole, path)
    tensor = np.array(read_file(path)[1]["rope_freqs.weight"])
    assert (tensor[0], tensor[-1]) == (1, 8)
    config, found = read_gguf(path).config.data, read_source(path)[0].model
    assert config["rope_scaling"] == rope
    tokens = mx.array([[1, 5, 200, 3, 9, 9, 7, 30]])
    want = read_published(source).model(tokens)
    assert np.abs(np.array(want) - np.array(found(tokens))).max() < 1e-5


def test_other_factors_of_rotary_positions_are_refused() -> None:
    with pytest.raises(ConvertError, match=r"no scaling of LLaMA 3\.1's kind was found"):
        scaling({"rope_theta": 100.0}, mx.array([1.0, 3.0, 2.0, 8.0]), "x.gguf")
    with pytest.raises(ConvertError, match="are not written as GGUF"):
        metadata_of(config("qwen2", rope_scaling=LLAMA31))


@pytest.mark.parametrize(
    ("width", "theta", "context", "high"),
    [
        (8, 100.0, 100, 4.0),  # one pair is interpolated
        (128, 100.0, 64, 2.0),  # the pairs tell both limits
        (128, 1e4, 1000, 3.0),
        (128, 100.0, 800, 4.0),  # no pair reaches the factor
    ],
)
def test_a_scaling_follows_from_its_interpolated_pairs(
    width: int, theta: float, context: int, high: float
) -> None:
    rope = LLAMA31 | {"original_max_position_embeddings": context, "high_freq_factor": high}
    found = factors(config("llama", head_dim=width, rope_theta=theta, rope_scaling=rope))
    assert found is not None
    assert scaling({"rope_theta": theta}, found, "x.gguf") == rope


def test_a_scaling_that_does_not_follow_from_its_factors_is_refused() -> None:
    rope = LLAMA31 | {"high_freq_factor": 2.0, "original_max_position_embeddings": 64}
    with pytest.raises(ConvertError, match=r"the scaling doesn't follow.*--to hf"):
        factors(config("llama", head_dim=12, rope_theta=100.0, rope_scaling=rope))


def test_a_file_that_names_no_base_has_that_of_llama_cpp(tmp_path: Path) -> None:
    rope = LLAMA31 | {"original_max_position_embeddings": 64}
    source = write(tmp_path / "model", "llama", rope_scaling=rope, rope_theta=10000.0)
    path = tmp_path / "model.gguf"
    run = import_run(source, root=tmp_path / "runs")
    write_llama_cpp(replace(exportable(run.path), tokenizer=ByteTokenizer()), path)
    metadata, tensors, _ = read_file(path)
    del metadata["llama.rope.freq_base"]
    write_file(path, metadata, tensors)
    found = read_gguf(path).config.data
    assert (found["rope_theta"], found["rope_scaling"]) == (10000.0, rope)


def test_other_layers_with_a_window_are_told() -> None:
    types = ["sliding_attention", "full_attention", "full_attention"]
    shape = {"num_hidden_layers": 3, "attention_bias": False}
    found = metadata_of(config("gemma3_text", **shape, layer_types=types))
    key = "gemma3.attention.sliding_window_pattern"
    assert found[key] == [1, 0, 0]
    assert config_of(found, True)["layer_types"] == types
    every_second = config_of(found | {key: 2}, True)["layer_types"]
    assert every_second == ["sliding_attention", "full_attention", "sliding_attention"]
    usual = metadata_of(config("gemma3_text", **shape, layer_types=["sliding_attention"] * 3))
    assert key not in usual
    assert config_of(usual, True)["layer_types"] == ["sliding_attention"] * 3
