"""Small models with drawn weights: one of each family that is written as GGUF, and its options."""

import json
import shutil
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
from mlx_transformers.data.tokenizers.byte_level_bpe import ByteLevelBpe
from mlx_transformers.data.tokenizers.sentencepiece import SentencePiece
from mlx_transformers.verbs.import_run import import_run

VOCAB = 512
"""Rows of the vocabulary, some of them beyond the tokens."""
TEXT = Path(__file__).parents[1] / "README.md"
"""The text that the tokenizer is trained on."""
ROPED: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "vocab_size": VOCAB,
    "rope_theta": 5000.0,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
}
LAYER_NORMS: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 256,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "vocab_size": VOCAB,
}
MOE = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
STATES: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "vocab_size": VOCAB,
    "state_size": 16,
    "conv_kernel": 4,
    "expand": 2,
    "tie_word_embeddings": True,
}
GPT: dict[str, Any] = {"n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 256}
GPT |= {"vocab_size": VOCAB}
LATENT: dict[str, Any] = {
    **ROPED,
    "num_key_value_heads": 4,
    "moe_intermediate_size": 32,
    "n_routed_experts": 8,
    "n_shared_experts": 2,
    "num_experts_per_tok": 2,
    "first_k_dense_replace": 1,
    "kv_lora_rank": 32,
    "q_lora_rank": 24,
    "qk_nope_head_dim": 24,
    "qk_rope_head_dim": 8,
    "v_head_dim": 32,
    "rms_norm_eps": 1e-6,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
YARN |= {"mscale": 0.7, "mscale_all_dim": 0.7, "beta_fast": 32, "beta_slow": 1}
FALCON = LAYER_NORMS | {"activation": "gelu_pytorch_tanh", "bias": False}
NEW_FALCON = FALCON | {"new_decoder_architecture": True, "num_kv_heads": 2}
TANH = {"hidden_act": "gelu_pytorch_tanh"}
GEMMA = {"head_dim": 32, "query_pre_attn_scalar": 32, "tie_word_embeddings": True}
GEMMA |= {"attention_bias": False}

DRAWN: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", ROPED),
    "llama-wide-heads": ("llama", ROPED | {"head_dim": 32, "tie_word_embeddings": True}),
    "llama-of-256": ("llama", ROPED | {"hidden_size": 256, "intermediate_size": 512}),
    "llama-biases": ("llama", ROPED | {"attention_bias": True, "mlp_bias": True}),
    "llama-odd": ("llama", ROPED | {"head_dim": 12, "intermediate_size": 42, "hidden_size": 40}),
    "llama-linear": ("llama", ROPED | {"rope_scaling": {"type": "linear", "factor": 4.0}}),
    "llama-31": (
        "llama",
        ROPED
        | {"rope_theta": 500.0}
        | {
            "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0}
            | {"high_freq_factor": 4.0, "original_max_position_embeddings": 64}
        },
    ),
    "mistral": ("mistral", ROPED | {"sliding_window": None}),
    "mixtral": ("mixtral", ROPED | {"num_local_experts": 8, "num_experts_per_tok": 2}),
    "arcee": ("arcee", ROPED | {"hidden_act": "relu2"}),
    "bloom": (
        "bloom",
        {"hidden_size": 64, "n_layer": 3, "n_head": 4, "vocab_size": VOCAB, "seq_length": 256},
    ),
    "cohere": ("cohere", ROPED | {"logit_scale": 0.3, "tie_word_embeddings": True}),
    "cohere2": (
        "cohere2",
        ROPED
        | {"num_hidden_layers": 5, "sliding_window": 8, "logit_scale": 0.3}
        | {"tie_word_embeddings": True},
    ),
    "deepseek_v2": ("deepseek_v2", LATENT | {"routed_scaling_factor": 2.5}),
    "deepseek_v2-full-rank": (
        "deepseek_v2",
        LATENT | {"q_lora_rank": None, "n_shared_experts": 1},
    ),
    "deepseek_v2-yarn": ("deepseek_v2", LATENT | {"rope_scaling": YARN, "rope_theta": 100.0}),
    "deepseek_v3": (
        "deepseek_v3",
        LATENT
        | {"n_group": 4, "topk_group": 2, "norm_topk_prob": True, "routed_scaling_factor": 2.5},
    ),
    "deepseek_v3-ungrouped": (
        "deepseek_v3",
        LATENT | {"n_group": 1, "topk_group": 1, "q_lora_rank": None, "norm_topk_prob": False},
    ),
    "ernie4_5": ("ernie4_5", ROPED),
    "exaone4": ("exaone4", ROPED | {"sliding_window": None}),
    "falcon": ("falcon", FALCON | {"multi_query": True}),
    "falcon-grouped": ("falcon", NEW_FALCON),
    "falcon-one-norm": ("falcon", NEW_FALCON | {"num_ln_in_parallel_attn": 1}),
    "gemma": ("gemma", ROPED | GEMMA),
    "gemma2": ("gemma2", ROPED | GEMMA | {"sliding_window": 8, "num_hidden_layers": 4}),
    "gemma3_text": (
        "gemma3_text",
        ROPED | GEMMA | {"sliding_window": 8, "num_hidden_layers": 7, "rope_theta": 1e6},
    ),
    "gemma3_text-other": (
        "gemma3_text",
        ROPED
        | GEMMA
        | {"sliding_window": 8, "rope_theta": 1e6, "rope_local_base_freq": 700.0}
        | {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"]},
    ),
    "glm4": ("glm4", ROPED | {"attention_bias": True, "partial_rotary_factor": 0.5}),
    "gpt2": ("gpt2", GPT),
    "gpt2-null": ("gpt2", GPT | {"n_inner": None}),
    "gpt2-inner": ("gpt2", GPT | {"n_inner": 96, "tie_word_embeddings": False}),
    "gpt_neox": ("gpt_neox", LAYER_NORMS | {"hidden_act": "gelu_new", "rotary_pct": 0.5}),
    "gpt_neox-serial": (
        "gpt_neox",
        LAYER_NORMS
        | {"hidden_act": "gelu_new", "rotary_pct": 0.25, "use_parallel_residual": False},
    ),
    "granite": (
        "granite",
        ROPED
        | {"attention_multiplier": 0.2, "embedding_multiplier": 3.0}
        | {"residual_multiplier": 0.5, "logits_scaling": 2.0, "mlp_bias": True},
    ),
    "granitemoe": (
        "granitemoe",
        ROPED
        | {"num_local_experts": 8, "num_experts_per_tok": 2, "residual_multiplier": 0.5}
        | {"attention_multiplier": 0.2, "embedding_multiplier": 3.0, "logits_scaling": 2.0},
    ),
    "hunyuan_v1_dense": ("hunyuan_v1_dense", ROPED | {"head_dim": 32}),
    "mamba": ("mamba", STATES | {"time_step_rank": 4, "intermediate_size": 128}),
    "mamba2": ("mamba2", STATES | {"num_heads": 8, "head_dim": 16, "n_groups": 2}),
    "mpt": (
        "mpt",
        {"d_model": 64, "n_layers": 3, "n_heads": 4, "max_seq_len": 256, "vocab_size": VOCAB}
        | {"attn_config": {"clip_qkv": 0.3, "attn_pdrop": 0}},
    ),
    "mpt-six-heads": (
        "mpt",
        {"d_model": 96, "n_layers": 3, "n_heads": 6, "max_seq_len": 256, "vocab_size": VOCAB},
    ),
    "nemotron": (
        "nemotron",
        ROPED
        | {"hidden_act": "relu2", "partial_rotary_factor": 0.5, "norm_eps": 1e-5}
        | {"head_dim": 16, "attention_bias": True, "mlp_bias": True},
    ),
    "olmo": ("olmo", ROPED | {"clip_qkv": 0.5}),
    "olmo2": ("olmo2", ROPED),
    "olmoe": (
        "olmoe",
        ROPED | {"num_key_value_heads": 4, "num_experts": 8, "num_experts_per_tok": 2},
    ),
    "phi": (
        "phi",
        LAYER_NORMS | {"hidden_act": "gelu_new", "partial_rotary_factor": 0.5},
    ),
    "phi3": ("phi3", ROPED | {"partial_rotary_factor": 0.5, "pad_token_id": 0}),
    "phi3-whole": ("phi3", ROPED | {"pad_token_id": 0, "sliding_window": 256}),
    "qwen2": ("qwen2", ROPED),
    "qwen2_moe": (
        "qwen2_moe",
        ROPED | MOE | {"shared_expert_intermediate_size": 64, "norm_topk_prob": False},
    ),
    "qwen3": ("qwen3", ROPED | {"head_dim": 32}),
    "qwen3_moe": (
        "qwen3_moe",
        ROPED | MOE | {"head_dim": 32, "norm_topk_prob": True, "mlp_only_layers": []},
    ),
    "seed_oss": ("seed_oss", ROPED | {"head_dim": 32, "attention_out_bias": False}),
    "smollm3": ("smollm3", ROPED | {"num_hidden_layers": 5, "pad_token_id": 0}),
    "stablelm": ("stablelm", ROPED | {"use_qkv_bias": True, "partial_rotary_factor": 0.25}),
    "stablelm-parallel": ("stablelm", ROPED | {"use_parallel_residual": True}),
    "starcoder2": ("starcoder2", ROPED | TANH | {"sliding_window": None}),
}
"""By a name of its own: the family, and the config."""

PIECES = {"llama", "mistral", "mixtral", "gemma", "gemma2", "gemma3_text", "phi3", "arcee"}
PIECES |= {"mamba2", "deepseek_v3"}
"""Families drawn with sentencepiece's byte pairs; the others have byte-level ones."""


def draw(name: str, out: Path) -> Path:
    """Return the run of a model with drawn weights and a small tokenizer; it is made anew."""
    kind, own = DRAWN[name]
    folder, runs = out / "published" / name, out / "runs"
    for old in (folder, runs / name):
        shutil.rmtree(old, ignore_errors=True)
    config = HfConfig({"model_type": kind, "dtype": "float32", **own})
    table, weights = read(family_of(config), config)
    mx.random.seed(1)
    model = typed_model(table, kind).build(VOCAB)
    theirs = to_theirs(
        weights,
        {
            name: array + 0.1 * mx.random.normal(array.shape)
            for name, array in tree_flatten(model.parameters())
        },
    )
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config.data))
    write_tensors(folder, theirs)
    text = [TEXT.read_text(encoding="utf-8")]
    if kind in PIECES:
        content = SentencePiece(vocab_size=VOCAB - 8).build(text).serialize()
        (folder / "tokenizer.model").write_bytes(content)
    else:
        content = ByteLevelBpe(vocab_size=VOCAB - 8).build(text).serialize()
        (folder / "tokenizer.json").write_bytes(content)
    return import_run(folder, name, runs).path
