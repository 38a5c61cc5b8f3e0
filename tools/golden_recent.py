"""Goldens of decoders that mix kinds of layers: a class of transformers, and its config."""

from typing import Any

from golden_decoders import EXPERTS

SCAN = {"mamba_num_heads": 4, "mamba_head_dim": 6, "ssm_state_size": 5, "conv_kernel": 3}
SCAN |= {"n_groups": 2, "chunk_size": 4, "time_step_min": 0.3, "time_step_max": 0.8, "head_dim": 6}
SPARSE = {key: value for key, value in EXPERTS.items() if key != "first_k_dense_replace"}
SPARSE |= {"moe_shared_expert_intermediate_size": 10, "routed_scaling_factor": 1.5}

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
}
