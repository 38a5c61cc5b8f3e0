"""Tiny published folders: configs as their classes write them, and weights drawn here."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from mlx_transformers.assembly.published import typed_model
from mlx_transformers.convert.checkpoint import write_tensors
from mlx_transformers.convert.config import HfConfig
from mlx_transformers.convert.family import read
from mlx_transformers.convert.registry import family_of
from mlx_transformers.convert.weights import to_theirs
from mlx_transformers.data.tokenizers.byte import ByteTokenizer
from mlx_transformers.data.tokenizers.published import tokenizer_files

ROPED = {
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "vocab_size": 260,
    "rope_theta": 5000.0,
    "rms_norm_eps": 1e-5,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "vocab_size": 260},
    "llama": {**ROPED, "tie_word_embeddings": True, "head_dim": 12, "attention_bias": True},
    "mistral": {**ROPED, "sliding_window": 6},
    "mixtral": {**ROPED, "num_local_experts": 3, "num_experts_per_tok": 2},
}

NEOX = {"hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": 2, "vocab_size": 260}
MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
STATES = {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 260, "state_size": 8}
STATES |= {"conv_kernel": 4, "expand": 2, "tie_word_embeddings": True}
MORE: dict[str, dict[str, Any]] = {
    "cohere": {**ROPED, "logit_scale": 0.3, "use_qk_norm": True, "tie_word_embeddings": True},
    "deepseek_v3": {
        **ROPED,
        "num_key_value_heads": 4,
        "moe_intermediate_size": 24,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "first_k_dense_replace": 1,
        "n_group": 2,
        "topk_group": 1,
        "kv_lora_rank": 16,
        "q_lora_rank": 12,
        "qk_nope_head_dim": 8,
        "qk_rope_head_dim": 4,
        "v_head_dim": 8,
        "norm_topk_prob": True,
    },
    "mamba": {**STATES, "time_step_rank": 3, "intermediate_size": 64},
    "mamba2": {**STATES, "num_heads": 4, "head_dim": 16, "n_groups": 2},
    "gemma2": {**ROPED, "head_dim": 12, "query_pre_attn_scalar": 20, "sliding_window": 64},
    "gemma3_text": {
        **ROPED,
        "hidden_size": 64,
        "num_hidden_layers": 4,
        "head_dim": 12,
        "sliding_window": 6,
        "rope_local_base_freq": 700.0,
        "layer_types": ["sliding_attention"] * 3 + ["full_attention"],
    },
    "gptj": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "rotary_dim": 4}
    | {"vocab_size": 260},
    "gpt_neox": {**NEOX, "num_attention_heads": 4, "hidden_act": "gelu_new", "rotary_pct": 0.5}
    | {"max_position_embeddings": 64},
    "granite": {
        **ROPED,
        "attention_multiplier": 0.2,
        "embedding_multiplier": 3.0,
        "residual_multiplier": 0.5,
        "logits_scaling": 2.0,
        "mlp_bias": True,
    },
    "internlm2": {**ROPED, "bias": True},
    "internlm3": {**ROPED, "bias": True, "qkv_bias": True},
    "olmo2": {**ROPED},
    "phi": {**NEOX, "num_attention_heads": 4, "max_position_embeddings": 64},
    "phi3": {**ROPED, "partial_rotary_factor": 0.5, "pad_token_id": 0},
    "qwen2": {**ROPED},
    "qwen2_moe": {**ROPED, **MOE, "shared_expert_intermediate_size": 28},
    "qwen3": {**ROPED, "head_dim": 12},
    "qwen3_moe": {**ROPED, **MOE, "head_dim": 12, "norm_topk_prob": True, "mlp_only_layers": [0]},
    "smollm3": {**ROPED, "num_hidden_layers": 4},
    "stablelm": {**ROPED, "use_qkv_bias": True, "use_parallel_residual": True},
    "starcoder2": {**ROPED, "hidden_act": "gelu", "tie_word_embeddings": False},
}
"""Of further families that mlx-lm has."""

GEMMA = {
    "gemma": {**ROPED, "head_dim": 12},
    "arcee": {**ROPED, "hidden_act": "relu2"},
    "olmoe": {**ROPED, "num_experts": 4, "num_experts_per_tok": 2},
    "seed_oss": {**ROPED, "head_dim": 12},
    "granitemoe": {**ROPED, "num_local_experts": 3, "num_experts_per_tok": 2},
    "nemotron": {**ROPED, "hidden_act": "relu2", "partial_rotary_factor": 0.5, "head_dim": 8},
    "olmo": {**ROPED},
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4, "vocab_size": 260},
    "cohere2": {**ROPED, "num_hidden_layers": 4, "sliding_window": 6, "logit_scale": 0.3},
    "ernie4_5": {**ROPED},
    "exaone4": {**ROPED, "sliding_window": None},
    "falcon": {**NEOX, "num_attention_heads": 4, "max_position_embeddings": 64},
    "mpt": {"d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 64, "vocab_size": 260}
    | {"attn_config": {"clip_qkv": 0.3, "attn_pdrop": 0}},
    "deepseek_v2": {
        **ROPED,
        "num_key_value_heads": 4,
        "rms_norm_eps": 1e-6,
        "moe_intermediate_size": 24,
        "n_routed_experts": 4,
        "n_shared_experts": 2,
        "num_experts_per_tok": 2,
        "first_k_dense_replace": 1,
        "kv_lora_rank": 16,
        "q_lora_rank": 12,
        "qk_nope_head_dim": 8,
        "qk_rope_head_dim": 4,
        "v_head_dim": 6,
    },
    "glm4": {**ROPED, "head_dim": 8, "attention_bias": True, "partial_rotary_factor": 0.5},
    "hunyuan_v1_dense": {**ROPED, "head_dim": 8},
}
"""Which llama.cpp has, and mlx-lm not or with another gelu."""

SEEING = {
    "llama4_text": {
        **ROPED,
        "head_dim": 8,
        "intermediate_size_mlp": 36,
        "num_local_experts": 3,
        "moe_layers": [1],
        "no_rope_layers": [1, 0],
        "attention_chunk_size": 4,
        "floor_scale": 3,
    },
}
"""Of models that also see, which neither reads."""


def write(
    folder: Path,
    name: str,
    dtype: str = "float32",
    config: dict[str, Any] | None = None,
    **changes: Any,
) -> Path:
    """A folder with a model of this family, with the byte tokenizer as its tokenizer.json."""
    own = (CONFIGS | MORE | GEMMA | SEEING)[name] if config is None else config
    config = {"model_type": name, "dtype": dtype, **own, **changes}
    table, weights = read(family_of(HfConfig(config)), HfConfig(config))
    mx.random.seed(1)
    model = typed_model(table, name).build(260)
    ours = {
        key: array + 0.1 * mx.random.normal(array.shape)
        for key, array in tree_flatten(model.parameters())
    }
    if name == "llama4_text":  # whose layout has no balance of experts
        ours |= {key: 0 * array for key, array in ours.items() if key.endswith(".balance")}
    theirs = to_theirs(weights, ours)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    write_tensors(folder, {n: a.astype(getattr(mx, dtype)) for n, a in theirs.items()})
    for file, content in tokenizer_files(ByteTokenizer()).items():
        (folder / file).write_bytes(content)
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    return folder
