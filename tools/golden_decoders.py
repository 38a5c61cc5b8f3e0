"""Goldens of decoders of the LLaMA line: a class of transformers, and its config beside SMALL."""

from typing import Any

from golden_encoders import REFORMER

WINDOW = {"sliding_window": 5}
LATENT = {
    "num_key_value_heads": 4,
    "kv_lora_rank": 8,
    "qk_nope_head_dim": 6,
    "qk_rope_head_dim": 4,
    "v_head_dim": 5,
}
EXPERTS = {
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_shared_experts": 1,
    "moe_intermediate_size": 8,
    "n_group": 2,
    "topk_group": 1,
    "first_k_dense_replace": 1,
}
DELTA = {
    "layer_types": ["linear_attention", "full_attention", "linear_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 6,
    "linear_value_head_dim": 5,
    "linear_conv_kernel_dim": 3,
}
FEW = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8}


def rope(kind: str, **more: Any) -> dict[str, Any]:
    """Rotary parameters of one scaling."""
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 10000.0, **more}}


YARN = {"factor": 4.0, "original_max_position_embeddings": 8, "beta_fast": 4.0}
LONG = {
    "original_max_position_embeddings": 6,
    **rope("longrope", short_factor=[1.0, 1.5], long_factor=[2.0, 4.0], partial_rotary_factor=1.0),
}

MAMBA2 = {"mamba_n_heads": 4, "mamba_n_groups": 2, "mamba_d_state": 6, "mamba_chunk_size": 4}

MORE: dict[str, tuple[Any, ...]] = {
    "cwm": ("CwmForCausalLM", {**WINDOW, "head_dim": 8, "mlp_bias": True}),
    "flex_olmo": ("FlexOlmoForCausalLM", {"num_experts": 4, "num_experts_per_tok": 2}),
    "glm4_moe_lite": (
        "Glm4MoeLiteForCausalLM",
        {**LATENT, **EXPERTS, "q_lora_rank": 8, "mlp_layer_types": ["sparse", "dense"]},
    ),
    "hunyuan_moe": (
        "HunYuanMoEV1ForCausalLM",
        {"head_dim": 8, "num_experts": 4, "moe_topk": 2},
    ),
    "exaone_moe": (
        "ExaoneMoeForCausalLM",
        {**WINDOW, **FEW, "num_hidden_layers": 4, "num_shared_experts": 1, "n_group": 2}
        | {"head_dim": 6, "mlp_layer_types": ["dense", "sparse", "sparse", "dense"]},
    ),
    "granitemoehybrid": (
        "GraniteMoeHybridForCausalLM",
        {**MAMBA2, "num_hidden_layers": 3, "num_local_experts": 3, "num_experts_per_tok": 2}
        | {"layer_types": ["linear_attention", "full_attention", "linear_attention"]}
        | {"shared_intermediate_size": 12, "embedding_multiplier": 2.0, "logits_scaling": 2.0}
        | {"residual_multiplier": 0.5, "attention_multiplier": 0.4},
    ),
    "granitemoehybrid_dense": (
        "GraniteMoeHybridForCausalLM",
        {"mamba_n_heads": 1, "layer_types": ["full_attention"] * 2, "num_local_experts": 0}
        | {"shared_intermediate_size": 12, "position_embedding_type": "rope"},
    ),
    "lfm2_moe": (
        "Lfm2MoeForCausalLM",
        {**FEW, "num_hidden_layers": 3, "layer_types": ["conv", "full_attention", "conv"]}
        | {"num_dense_layers": 1, "routed_scaling_factor": 1.5},
    ),
    "solar_open": (
        "SolarOpenForCausalLM",
        {
            **EXPERTS,
            "head_dim": 6,
            "attention_bias": True,
            **rope("default", partial_rotary_factor=1.0),
        },
    ),
    "hyperclovax": (
        "HyperCLOVAXForCausalLM",
        {"embedding_multiplier": 3.0, "residual_multiplier": 0.5, "logits_scaling": 2.0},
    ),
    "apertus": (
        "ApertusForCausalLM",
        {},
        {r"act_fn\.beta$": (0.5, 0.0), r"act_fn\.eps$": (-1e-6, 0.0)},
    ),
    "ernie4_5_moe": (
        "Ernie4_5_MoeForCausalLM",
        {
            "moe_num_experts": 4,
            "moe_k": 2,
            "moe_intermediate_size": 8,
            "moe_num_shared_experts": 1,
            "moe_layer_start_index": 1,
            "use_bias": True,
        },
    ),
    "phimoe": (
        "PhimoeForCausalLM",
        {**WINDOW, "num_local_experts": 4, "attention_bias": True, "router_jitter_noise": 0.4},
    ),
    "jais2": ("Jais2ForCausalLM", {}),
    "ministral3": (
        "Ministral3ForCausalLM",
        {"head_dim": 8, **rope("yarn", **YARN, llama_4_scaling_beta=0.5)},
    ),
    "modernbert_decoder": (
        "ModernBertDecoderForCausalLM",
        {"num_hidden_layers": 3, "local_attention": 8, "cls_token_id": 1, "sep_token_id": 2},
    ),
    "nanochat": ("NanoChatForCausalLM", {"attention_bias": True}),
    "minimax_m2": (
        "MiniMaxM2ForCausalLM",
        {
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "head_dim": 8,
            **rope("default", partial_rotary_factor=0.5),
        },
    ),
    "vaultgemma": (
        "VaultGemmaForCausalLM",
        {**WINDOW, "head_dim": 8, "attn_logit_softcapping": 2.0},
    ),
    "youtu": ("YoutuForCausalLM", {**LATENT, "q_lora_rank": 8, "tie_word_embeddings": False}),
    "ctrl": ("CTRLLMHeadModel", {"n_embd": 16, "n_layer": 2, "n_head": 4, "dff": 24}),
    "gpt_neox_japanese": ("GPTNeoXJapaneseForCausalLM", {"hidden_size": 16}),
    "dbrx": (
        "DbrxForCausalLM",
        {
            "d_model": 16,
            "n_heads": 4,
            "n_layers": 2,
            "max_seq_len": 32,
            "attn_config": {"kv_n_heads": 2, "clip_qkv": 0.8, "rope_theta": 10000.0},
            "ffn_config": {"ffn_hidden_size": 8, "moe_top_k": 2, "hidden_size": 16},
        },
    ),
}
"""Relatives of those below."""

MAMBA = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "state_size": 4,
    "time_step_rank": 3,
    "intermediate_size": 32,
}

STATE_SPACES: dict[str, tuple[Any, ...]] = {
    "mamba": ("MambaForCausalLM", {**MAMBA, "conv_kernel": 3}),
    "falcon_mamba": ("FalconMambaForCausalLM", {**MAMBA, "use_conv_bias": False}),
    "mamba2": (
        "Mamba2ForCausalLM",
        {"hidden_size": 16, "num_heads": 4, "head_dim": 8, "n_groups": 2, "state_size": 6}
        | {"chunk_size": 4, "time_step_limit": (0.2, 0.9), "tie_word_embeddings": True},
    ),
    "jamba": (
        "JambaForCausalLM",
        {"num_hidden_layers": 5, "attn_layer_period": 3, "attn_layer_offset": 1}
        | {"num_experts": 3, "mamba_d_state": 4, "mamba_dt_rank": 3},
    ),
    "bamba": (
        "BambaForCausalLM",
        {**MAMBA2, "num_hidden_layers": 3, "attn_layer_indices": [1], "attention_bias": True},
    ),
    "falcon_h1": (
        "FalconH1ForCausalLM",
        {**MAMBA2, "mamba_d_ssm": 24, "mamba_rms_norm": True, "projectors_bias": True}
        | {"ssm_multipliers": [0.5, 1.5, 0.7, 1.2, 0.9], "ssm_in_multiplier": 1.3}
        | {"ssm_out_multiplier": 0.8, "attention_in_multiplier": 1.1, "key_multiplier": 0.6}
        | {"attention_out_multiplier": 0.9, "mlp_multipliers": [0.7, 1.4]}
        | {"embedding_multiplier": 2.0, "lm_head_multiplier": 0.5, "head_dim": 4},
    ),
    "rwkv": (
        "RwkvForCausalLM",
        {"hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 24, "context_length": 32},
    ),
    "recurrent_gemma": (
        "RecurrentGemmaForCausalLM",
        {"num_hidden_layers": 4, "num_key_value_heads": 1, "lru_width": 20, "conv1d_width": 3}
        | {"attention_window_size": 4, "logits_soft_cap": 5.0},
    ),
    "xlstm": (
        "xLSTMForCausalLM",
        {"hidden_size": 128, "num_hidden_layers": 2, "num_heads": 2}
        | {"ffn_round_up_to_multiple_of": 8, "gate_soft_cap": 3.0, "output_logit_soft_cap": 5.0}
        | {"autocast_kernel_dtype": "float32", "chunk_size": 8},
    ),
    "zamba2": (
        "Zamba2ForCausalLM",
        {"num_hidden_layers": 5, "n_mamba_heads": 4, "mamba_d_state": 6, "mamba_ngroups": 2}
        | {"layers_block_type": ["linear_attention", *["hybrid"] * 3, "linear_attention"]}
        | {"num_mem_blocks": 2, "adapter_rank": 3, "chunk_size": 4, "use_mem_rope": True}
        | {"num_key_value_heads": 4, "time_step_min": 0.2, "time_step_max": 0.5},
    ),
    "lfm2": (
        "Lfm2ForCausalLM",
        {"num_hidden_layers": 3, "layer_types": ["conv", "full_attention", "conv"]}
        | {"conv_L_cache": 4, "block_auto_adjust_ff_dim": False},
    ),
}
"""State spaces, and the hybrids of them and attention. Their input projections have no bias here:
it would write into padding, which their convolutions read."""

DECODERS: dict[str, tuple[Any, ...]] = {
    **STATE_SPACES,
    "llama_linear": ("LlamaForCausalLM", rope("linear", factor=4.0)),
    "llama_dynamic": ("LlamaForCausalLM", rope("dynamic", factor=4.0)),
    "llama_llama3": (
        "LlamaForCausalLM",
        rope(
            "llama3",
            factor=4.0,
            original_max_position_embeddings=16,
            low_freq_factor=1.0,
            high_freq_factor=2.0,
        ),
    ),
    "llama_yarn": ("LlamaForCausalLM", {"head_dim": 8, **rope("yarn", **YARN)}),
    "ministral": (
        "MinistralForCausalLM",
        {**WINDOW, "layer_types": ["sliding_attention", "full_attention"], "head_dim": 4},
    ),
    "qwen2": ("Qwen2ForCausalLM", {"use_sliding_window": True, **WINDOW, "max_window_layers": 1}),
    "qwen3": ("Qwen3ForCausalLM", {"head_dim": 8}),
    "qwen2_moe": ("Qwen2MoeForCausalLM", {**FEW, "shared_expert_intermediate_size": 12}),
    "qwen3_next": (
        "Qwen3NextForCausalLM",
        {**FEW, "num_hidden_layers": 3, "head_dim": 8, "partial_rotary_factor": 0.5}
        | {**DELTA, "mlp_only_layers": [2]}
        | {"shared_expert_intermediate_size": 12, "attention_bias": True},
    ),
    "qwen3_5": (
        "Qwen3_5ForCausalLM",
        {"num_hidden_layers": 3, "head_dim": 8, **DELTA, "attention_bias": True},
    ),
    "qwen3_5_moe": (
        "Qwen3_5MoeForCausalLM",
        {**FEW, "num_hidden_layers": 3, "head_dim": 8, **DELTA}
        | {"shared_expert_intermediate_size": 12},
    ),
    "qwen3_moe": ("Qwen3MoeForCausalLM", {**FEW, "head_dim": 8, "mlp_only_layers": [0]}),
    "gemma": ("GemmaForCausalLM", {"head_dim": 8}),
    "gemma2": ("Gemma2ForCausalLM", {**WINDOW, "head_dim": 8, "attn_logit_softcapping": 2.0}),
    "gemma3": ("Gemma3ForCausalLM", {**WINDOW, "head_dim": 8, "num_hidden_layers": 6}),
    "cohere": ("CohereForCausalLM", {"use_qk_norm": True}),
    "cohere2": ("Cohere2ForCausalLM", {**WINDOW, "num_hidden_layers": 4}),
    "glm": ("GlmForCausalLM", {"head_dim": 8}),
    "glm4": ("Glm4ForCausalLM", {"head_dim": 8}),
    "granite": ("GraniteForCausalLM", {"embedding_multiplier": 3.0, "residual_multiplier": 0.5}),
    "granitemoe": ("GraniteMoeForCausalLM", {"num_local_experts": 3, "logits_scaling": 2.0}),
    "granitemoeshared": (
        "GraniteMoeSharedForCausalLM",
        {"num_local_experts": 3, "shared_intermediate_size": 12},
    ),
    "olmo": ("OlmoForCausalLM", {"clip_qkv": 0.8}),
    "olmo2": ("Olmo2ForCausalLM", {}),
    "olmo3": ("Olmo3ForCausalLM", {**WINDOW, "num_hidden_layers": 4}),
    "olmoe": (
        "OlmoeForCausalLM",
        {"num_experts": 4, "num_experts_per_tok": 2, "clip_qkv": 0.8},
    ),
    "phi3": ("Phi3ForCausalLM", WINDOW),
    "phi3_longrope": ("Phi3ForCausalLM", LONG),
    "stablelm": (
        "StableLmForCausalLM",
        {"qk_layernorm": True, **rope("default", partial_rotary_factor=0.5)},
    ),
    "starcoder2": ("Starcoder2ForCausalLM", WINDOW),
    "nemotron": ("NemotronForCausalLM", {}),
    "deepseek_v2": (
        "DeepseekV2ForCausalLM",
        {**LATENT, **EXPERTS, "q_lora_rank": None, **rope("yarn", **YARN, mscale_all_dim=0.7)},
    ),
    "deepseek_v3": ("DeepseekV3ForCausalLM", {**LATENT, **EXPERTS, "q_lora_rank": 8}),
    "minicpm3": ("MiniCPM3ForCausalLM", {**LATENT, "q_lora_rank": 8, "dim_model_base": 8}),
    "dots1": ("Dots1ForCausalLM", {**EXPERTS, **WINDOW, "max_window_layers": 1}),
    "glm4_moe": ("Glm4MoeForCausalLM", {**EXPERTS, "use_qk_norm": True}),
    "gpt_oss": (
        "GptOssForCausalLM",
        {**WINDOW, "head_dim": 8, "num_local_experts": 3, "num_experts_per_tok": 2},
    ),
    "smollm3": ("SmolLM3ForCausalLM", {"num_hidden_layers": 4}),
    "helium": ("HeliumForCausalLM", {"head_dim": 4}),
    "exaone4": ("Exaone4ForCausalLM", {**WINDOW, "num_hidden_layers": 4}),
    "arcee": ("ArceeForCausalLM", {}),
    "seed_oss": ("SeedOssForCausalLM", {"head_dim": 8}),
    "hunyuan": ("HunYuanDenseV1ForCausalLM", {"head_dim": 8}),
    **MORE,
    "reformer": ("ReformerModelWithLMHead", {**REFORMER, "is_decoder": True}),
    "ernie4_5": ("Ernie4_5ForCausalLM", {"head_dim": 8, "use_bias": True}),
}
