"""Goldens of decoders that mix kinds of layers: a class of transformers, and its config."""

from typing import Any

from golden_decoders import DELTA, EXPERTS, LATENT

SCAN = {"mamba_num_heads": 4, "mamba_head_dim": 6, "ssm_state_size": 5, "conv_kernel": 3}
SCAN |= {"n_groups": 2, "chunk_size": 4, "time_step_min": 0.3, "time_step_max": 0.8, "head_dim": 6}
SPARSE = {key: value for key, value in EXPERTS.items() if key != "first_k_dense_replace"}
SPARSE |= {"moe_shared_expert_intermediate_size": 10, "routed_scaling_factor": 1.5}
FOUR = {"num_hidden_layers": 4, "head_dim": 6, "intermediate_size_mlp": 20}
FOUR |= {"num_local_experts": 4, "attention_chunk_size": 4}
KIMI = {key: value for key, value in LATENT.items() if key != "num_key_value_heads"}
KIMI |= {"num_key_value_heads": 4, "num_local_experts": 4, "num_experts_per_tok": 2}
KIMI |= {"moe_intermediate_size": 8, "linear_head_dim": 6, "linear_num_heads": 3}
KIMI |= {"num_hidden_layers": 3, "linear_conv_kernel_dim": 3, "tie_word_embeddings": False}
KIMI |= {"layer_types": ["linear_attention", "full_attention", "linear_attention"]}
HYBRID = {**DELTA, "num_hidden_layers": 3, "linear_value_head_dim": 3}

RECENT: dict[str, tuple[Any, ...]] = {
    "nemotron_h": (
        "NemotronHForCausalLM",
        {**SCAN, "layers_block_type": ["mamba", "mlp", "mamba", "attention", "mlp"]}
        | {"mlp_bias": True, "use_conv_bias": False},
    ),
    "nemotron_h_moe": (
        "NemotronHForCausalLM",
        {**SCAN, **SPARSE, "layers_block_type": ["mamba", "moe", "attention", "moe", "mamba"]}
        | {"moe_latent_size": 12},
    ),
    "llama4": (
        "Llama4ForCausalLM",
        {**FOUR, "interleave_moe_layer_step": 2, "floor_scale": 3, "attn_scale": 0.7}
        | {"no_rope_layers": [1, 0, 1, 0], "num_experts_per_tok": 2},
    ),
    "llama4_padded": (
        "Llama4ForCausalLM",
        {**FOUR, "moe_layers": [1], "attn_temperature_tuning": False, "use_qk_norm": False}
        | {"attention_bias": True, "tie_word_embeddings": True},
    ),
    "kimi_linear": (
        "KimiLinearForCausalLM",
        {**KIMI, "n_group": 2, "topk_group": 1, "mlp_layer_types": ["dense", "sparse", "sparse"]},
    ),
    "olmo_hybrid": (
        "OlmoHybridForCausalLM",
        {**HYBRID, "attention_bias": True, "rope_parameters": {"rope_theta": None}},
    ),
    "olmo_hybrid_rope": ("OlmoHybridForCausalLM", {**HYBRID, "linear_allow_neg_eigval": False}),
}
