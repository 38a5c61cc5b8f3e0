"""GGUF files: what is written is read back, and what they can't say is refused."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.assembly.published import read_published, read_source
from mlx_transformers.convert.gguf import config_of, metadata_of
from mlx_transformers.convert.gguf_writer import write_file
from mlx_transformers.core.errors import ConvertError, DataError, MlxtError
from mlx_transformers.data.tokenizers.byte import ByteTokenizer
from mlx_transformers.data.tokenizers.char import Char
from mlx_transformers.data.tokenizers.gguf import read_metadata, write_metadata
from mlx_transformers.data.tokenizers.hf import HfTokenizer
from mlx_transformers.data.tokenizers.numbers import NumberTokenizer
from mlx_transformers.data.tokenizers.sentencepiece import SentencePiece
from mlx_transformers.verbs.export_run import export_run, exportable, write_llama_cpp
from mlx_transformers.verbs.import_run import import_run

from .published import GEMMA, write

TEXT = "to be or not to be,\n\nthat is  the question: é 日本 12345\n" * 20
CHANGES: dict[str, dict[str, Any]] = {
    "llama": {"attention_bias": True},
    "mistral": {"sliding_window": None},
    "mixtral": {},
    "qwen2": {},
    "qwen3": {},
    "gemma": {},
    "gpt2": {},
    "arcee": {},
    "gemma2": {"query_pre_attn_scalar": 12, "attention_bias": False, "hidden_size": 32},
    "gemma3_text": {
        "query_pre_attn_scalar": 12,
        "num_hidden_layers": 6,
        "rope_local_base_freq": 10000.0,
        "layer_types": None,
    },
    "granite": {},
    "olmo2": {"attention_bias": False},
    "olmoe": {"attention_bias": False, "num_key_value_heads": 4},
    "qwen2_moe": {"norm_topk_prob": False},
    "qwen3_moe": {"attention_bias": False, "mlp_only_layers": []},
    "cohere": {"use_qk_norm": False},
    "granitemoe": {},
    "nemotron": {"attention_bias": True, "mlp_bias": True},
    "olmo": {"clip_qkv": 0.5},
    "stablelm": {},
    "seed_oss": {"attention_out_bias": False},
    "smollm3": {},
    "starcoder2": {"hidden_act": "gelu_pytorch_tanh"},
    "bloom": {},
    "cohere2": {},
    "ernie4_5": {},
    "exaone4": {},
    "glm4": {},
    "gpt_neox": {},
    "hunyuan_v1_dense": {},
    "phi": {},
    "phi3": {},
    "deepseek_v2": {"routed_scaling_factor": 2.5},
    "deepseek_v3": {"routed_scaling_factor": 2.5, "rms_norm_eps": 1e-6},
    "mamba": {},
    "mamba2": {},
    "falcon": {"activation": "gelu_pytorch_tanh", "bias": False, "multi_query": True},
    "mpt": {},
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
YARN |= {"mscale": 0.7, "mscale_all_dim": 0.7, "beta_fast": 32, "beta_slow": 1}
NEW_FALCON = {"activation": "gelu_pytorch_tanh", "new_decoder_architecture": True, "bias": False}
NEW_FALCON |= {"num_kv_heads": 2}
UNGROUPED = {"n_group": 1, "topk_group": 1, "q_lora_rank": None, "rms_norm_eps": 1e-6}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "grouped falcon": ("falcon", NEW_FALCON),
    "falcon of one norm": ("falcon", NEW_FALCON | {"num_ln_in_parallel_attn": 1}),
    "full-rank queries": ("deepseek_v2", {"q_lora_rank": None, "n_shared_experts": 1}),
    "yarn": ("deepseek_v2", {"rope_scaling": YARN, "rope_theta": 100.0}),
    "experts without groups": ("deepseek_v3", UNGROUPED),
}
"""Other options of families whose file has keys of its own."""


@pytest.mark.parametrize("name", [*CHANGES, *VARIANTS])
def test_a_model_goes_out_and_comes_in_unchanged(name: str, tmp_path: Path) -> None:
    family, changes = VARIANTS.get(name, (name, CHANGES.get(name, {})))
    source = write(tmp_path / "model", family, **changes)
    run = import_run(source, root=tmp_path / "runs")
    path = tmp_path / "model.gguf"
    whole = replace(exportable(run.path), tokenizer=ByteTokenizer())
    write_llama_cpp(whole, path, gelu_tanh=name == "mpt")
    found, tokenizer = read_source(path)
    assert tokenizer is not None
    assert tokenizer.encode("to be") == [*b"to be"]
    tokens = mx.array([[1, 5, 200, 3, 9, 9, 7, 30]])
    want, have = read_published(source).model(tokens), found.model(tokens)
    assert np.abs(np.array(want) - np.array(have)).max() < 1e-5
    again = import_run(path, root=tmp_path / "runs")
    assert export_run(again.path, "hf", tmp_path / "hf").is_dir()


@pytest.mark.parametrize("name", CHANGES)
def test_names_are_those_of_llama_cpp(name: str, tmp_path: Path) -> None:
    constants = pytest.importorskip("gguf.constants")
    run = import_run(write(tmp_path / "model", name, **CHANGES[name]), root=tmp_path / "runs")
    path = tmp_path / "model.gguf"
    whole = replace(exportable(run.path), tokenizer=ByteTokenizer())
    write_llama_cpp(whole, path, gelu_tanh=name == "mpt")
    [tensors, metadata] = mx.load(str(path), return_metadata=True)
    called = {title: arch for arch, title in constants.MODEL_ARCH_NAMES.items()}
    title = metadata["general.architecture"]
    arch = called[title]
    known = {constants.TENSOR_NAMES[part] for part in constants.MODEL_TENSORS[arch]}
    names = (re.sub(r"\.(weight|bias)$", "", key) for key in tensors)
    stems = {re.sub(r"blk\.\d+\.", "blk.{bid}.", name) for name in names}
    assert stems <= known
    own = {key.partition(".")[2] for key in metadata if key.startswith(f"{title}.")}
    keys = constants.Keys
    tables = (keys.LLM, keys.Attention, keys.Rope, keys.SSM)
    spelt = {str(v) for table in tables for k, v in vars(table).items() if k.isupper()}
    assert own
    assert {f"{{arch}}.{key}" for key in own} <= spelt


def test_what_llama_cpp_can_not_do_is_refused(tmp_path: Path) -> None:
    def export(name: str, dtype: str = "float32", **changes: Any) -> None:
        folder = tmp_path / f"{name}{len(list(tmp_path.iterdir()))}"
        run = import_run(write(folder, name, dtype, **changes), root=tmp_path / "runs")
        export_run(run.path, "gguf", tmp_path / "x.gguf")

    with pytest.raises(ConvertError, match=r"no sliding window .* from token 7 on"):
        export("mistral")
    with pytest.raises(ConvertError, match=r"gptj. is not written as GGUF"):
        export("gptj")
    with pytest.raises(ConvertError, match="has bias = False only in a falcon"):
        export("falcon", bias=True, activation="gelu_pytorch_tanh")
    with pytest.raises(ConvertError, match="has alibi = False only in a falcon"):
        export("falcon", alibi=True, activation="gelu_pytorch_tanh")
    with pytest.raises(ConvertError, match="has topk_method = greedy only in a deepseek_v2"):
        export("deepseek_v2", topk_method="group_limited_greedy", n_group=2, topk_group=1)
    with pytest.raises(ConvertError, match="has rms_norm_eps = 1e-06 only in a deepseek_v2"):
        export("deepseek_v2", rms_norm_eps=1e-5)
    with pytest.raises(ConvertError, match="has silu only in a llama, not gelu"):
        export("llama", hidden_act="gelu")
    with pytest.raises(ConvertError, match="has attention_bias = False only in a qwen3"):
        export("qwen3", attention_bias=True)
    with pytest.raises(ConvertError, match="scale_attn_by_inverse_layer_idx"):
        export("gpt2", scale_attn_by_inverse_layer_idx=True)
    with pytest.raises(ConvertError, match="float32 or float16"):
        export("mixtral", "bfloat16")
    with pytest.raises(DataError, match="cutting of words"):
        export("mixtral")
    assert not (tmp_path / "x.gguf").exists()


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        (
            "mpt",
            {"attn_config": {"softmax_scale": 0.2, "attn_pdrop": 0}},
            r"has attn_config.softmax_scale = 0.353553 only",
        ),
        (
            "deepseek_v2",
            {"rope_scaling": YARN | {"mscale": 1.0}},
            "YaRN here with mscale = mscale_all_dim",
        ),
    ],
)
def test_scores_that_llama_cpp_scales_otherwise_are_refused(
    name: str, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    run = import_run(write(tmp_path / "model", name, **changes), root=tmp_path / "runs")
    whole = replace(exportable(run.path), tokenizer=ByteTokenizer())
    with pytest.raises(ConvertError, match=message):
        write_llama_cpp(whole, tmp_path / "x.gguf", gelu_tanh=True)


def test_the_cure_of_an_exact_gelu_writes_the_file(tmp_path: Path) -> None:
    run = import_run(write(tmp_path / "model", "mpt"), root=tmp_path / "runs")
    whole = replace(exportable(run.path), tokenizer=ByteTokenizer())
    with pytest.raises(ConvertError, match="--gelu-tanh writes it all the same"):
        write_llama_cpp(whole, tmp_path / "x.gguf")
    write_llama_cpp(whole, tmp_path / "x.gguf", gelu_tanh=True)
    with pytest.raises(ConvertError, match="goes with --to gguf"):
        export_run(run.path, "hf", tmp_path / "y", gelu_tanh=True)


def test_an_older_file_of_latent_attention_has_one_matrix_of_keys_and_values(
    tmp_path: Path,
) -> None:
    run = import_run(write(tmp_path / "model", "deepseek_v2"), root=tmp_path / "runs")
    whole = replace(exportable(run.path), tokenizer=ByteTokenizer())
    new, old = tmp_path / "new.gguf", tmp_path / "old.gguf"
    write_llama_cpp(whole, new)
    [tensors, _] = mx.load(str(new), return_metadata=True)
    metadata = metadata_of(whole.config) | write_metadata(ByteTokenizer(), 260)
    keys = ("attention.key_length_mla", "attention.value_length_mla")
    widths = [metadata.pop(f"deepseek2.{key}") for key in keys]
    names = ("key_length", "value_length", "head_count_kv")
    metadata |= {
        f"deepseek2.attention.{name}": value
        for name, value in zip(names, (*widths, 4), strict=True)
    }
    for i in range(2):
        keys_of, values_of = (tensors.pop(f"blk.{i}.attn_{x}_b.weight") for x in "kv")
        both = mx.concatenate([keys_of.swapaxes(1, 2), values_of], axis=1)
        tensors[f"blk.{i}.attn_kv_b.weight"] = both.reshape(-1, both.shape[-1])
    write_file(old, metadata, tensors)
    tokens = mx.array([[1, 5, 200, 3, 9, 9, 7, 30]])
    one, two = (read_source(path)[0].model(tokens) for path in (new, old))
    assert np.abs(np.array(one) - np.array(two)).max() < 1e-6


def test_metadata_and_config_say_the_same() -> None:
    config = {
        "architectures": ["MixtralForCausalLM"],
        "model_type": "mixtral",
        "hidden_size": 32,
        "intermediate_size": 40,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 12,
        "max_position_embeddings": 64,
        "vocab_size": 99,
        "rope_theta": 5000.0,
        "rope_scaling": {"type": "linear", "factor": 4.0},
        "rms_norm_eps": 1e-5,
        "num_local_experts": 3,
        "num_experts_per_tok": 2,
        "tie_word_embeddings": True,
    }
    assert config_of(metadata_of(config), True) == config
    metadata = metadata_of(config)
    with pytest.raises(ConvertError, match=r"llama\.attention\.wormholes"):
        config_of(metadata | {"llama.attention.wormholes": 3}, True)
    with pytest.raises(ConvertError, match="architecture 'refact'"):
        config_of(metadata | {"general.architecture": "refact"}, True)
    with pytest.raises(ConvertError, match="width of a head"):
        config_of(metadata | {"llama.rope.dimension_count": 6}, True)
    with pytest.raises(ConvertError, match="not written as GGUF"):
        metadata_of(config | {"rope_scaling": {"type": "yarn", "factor": 4.0}})


def test_a_current_converter_s_keys_of_latent_attention_are_read() -> None:
    """It writes the one group of experts, and YaRN's limits, which are those of its default."""
    own = GEMMA["deepseek_v2"] | {"model_type": "deepseek_v2", "rope_scaling": YARN}
    metadata = metadata_of(own)
    written = {"rope.scaling.yarn_beta_fast": 32.0, "rope.scaling.yarn_beta_slow": 1.0}
    written |= {"expert_group_count": 1, "expert_group_used_count": 1}
    more = {f"deepseek2.{key}": value for key, value in written.items()}
    assert config_of(metadata | more, False) == config_of(metadata, False)
    for key in more:
        with pytest.raises(ConvertError, match=re.escape(key)):
            config_of(metadata | {key: 4}, False)


@pytest.mark.parametrize("kind", ["byte", "char", "bpe"])
def test_tokenizers_are_read_as_they_were_written(kind: str) -> None:
    configs = {"char": Char(), "bpe": SentencePiece(vocab_size=300)}
    ours = configs[kind].build([TEXT]) if kind in configs else ByteTokenizer()
    metadata = write_metadata(ours, ours.vocab_size + 3)
    assert len(metadata["tokenizer.ggml.tokens"]) == ours.vocab_size + 3
    again = read_metadata(metadata)
    assert again is not None
    assert again.encode(TEXT) == ours.encode(TEXT)
    assert (again.bos_id, again.eos_id) == (ours.bos_id, ours.eos_id)


@pytest.mark.parametrize("pre", ["gpt-2", "smollm", "llama-bpe", "qwen2"])
def test_byte_pairs_keep_their_cutting_of_words(pre: str) -> None:
    merges = ["t o", "Ġ b", "Ġb e", "1 2", "12 3"]
    tokens = [*"tobeĠ123", "to", "Ġb", "Ġbe", "12", "123", "<|end|>"]
    metadata: dict[str, Any] = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [1] * 13 + [3],
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.eos_token_id": 13,
        "tokenizer.chat_template": "{{ messages }}",
    }
    found = read_metadata(metadata)
    assert isinstance(found, HfTokenizer)
    digits = [5, 6, 7] if pre in ("smollm", "qwen2") else [12]
    assert found.encode("to be123") == [8, 10, *digits]
    assert (found.decode([8, 10, 13]), found.eos_id) == ("to be", 13)
    assert metadata.items() <= write_metadata(found, 14).items()


def test_tokenizers_without_a_form_are_refused() -> None:
    unigram = SentencePiece(vocab_size=300, model_type="unigram").build([TEXT])
    with pytest.raises(MlxtError, match="model_type = 'bpe'"):
        write_metadata(unigram, 300)
    with pytest.raises(DataError, match="Did you mean 'smollm'"):
        read_metadata(
            {
                "tokenizer.ggml.model": "gpt2",
                "tokenizer.ggml.tokens": [],
                "tokenizer.ggml.pre": "smolm",
            }
        )
    assert write_metadata(NumberTokenizer(5), 5) == {"tokenizer.ggml.model": "no_vocab"}
    assert read_metadata({"tokenizer.ggml.model": "no_vocab"}) is None
