"""GGUF's keys of metadata and those of config.json, by kind of architecture.

Names: llama.cpp, `gguf-py/gguf/constants.py`.
"""

KEYS = {
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "attention.key_length": "head_dim",
    "rope.freq_base": "rope_theta",
    "vocab_size": "vocab_size",
}
"""GGUF's key, without the name of the architecture, and that of config.json."""
EXPERTS = {"expert_used_count": "num_experts_per_tok"}
LLAMA_KEYS = KEYS | EXPERTS | {"expert_count": "num_local_experts"}
QWEN_KEYS = (
    KEYS
    | EXPERTS
    | {"expert_count": "num_experts", "expert_feed_forward_length": "moe_intermediate_size"}
)

GRANITE_KEYS = KEYS | {
    "attention.scale": "attention_multiplier",
    "embedding_scale": "embedding_multiplier",
    "residual_scale": "residual_multiplier",
    "logit_scale": "logits_scaling",
}
CENTRED_KEYS = {key: name for key, name in KEYS.items() if not key.endswith("rms_epsilon")}
"""Of architectures with layer norms; their own key of the epsilon is added."""
WHOLE_HEADS = {key: name for key, name in CENTRED_KEYS.items() if name != "head_dim"}
"""Of those whose heads share the width of the model."""

GPT2_KEYS = {
    "context_length": "n_positions",
    "embedding_length": "n_embd",
    "block_count": "n_layer",
    "feed_forward_length": "n_inner",
    "attention.head_count": "n_head",
    "attention.layer_norm_epsilon": "layer_norm_epsilon",
    "vocab_size": "vocab_size",
}
