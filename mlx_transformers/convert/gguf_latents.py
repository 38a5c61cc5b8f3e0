"""DeepSeek-V2 and V3 as llama.cpp has them: its architecture "deepseek2".

Names and layouts: llama.cpp, `conversion/deepseek.py` and `src/models/deepseek2.cpp`. V3 is marked
by the sigmoid that scores experts. Without groups both choose the same experts as here; of groups,
llama.cpp takes those with the best two experts, as V3 does.
"""

from typing import Any

import mlx.core as mx

from ..core.errors import ConvertError
from .config import HfConfig
from .families.deepseek import DEEPSEEK_V2, DEEPSEEK_V3, LATENT_EPS
from .family import readable
from .gguf_architecture import Architecture
from .gguf_keys import EXPERTS, KEYS
from .gguf_positions import LatentRotary
from .gguf_weights import THEIRS, ends, expert_rows
from .rows import BLOCK, Row, rows
from .transforms import Absorbed

SOFTMAX, SIGMOID = 1, 2
"""llama.cpp's numbers of the functions that score experts."""

LATENT_KEYS = {
    **{key: name for key, name in KEYS.items() if not key.endswith(("count_kv", "key_length"))},
    **EXPERTS,
    "expert_count": "n_routed_experts",
    "expert_shared_count": "n_shared_experts",
    "expert_feed_forward_length": "moe_intermediate_size",
    "expert_weights_scale": "routed_scaling_factor",
    "leading_dense_block_count": "first_k_dense_replace",
    "attention.q_lora_rank": "q_lora_rank",
    "attention.kv_lora_rank": "kv_lora_rank",
    "rope.dimension_count": "qk_rope_head_dim",
}

GROUPED_KEYS = {
    "expert_weights_norm": "norm_topk_prob",
    "expert_group_count": "n_group",
    "expert_group_used_count": "topk_group",
}
"""Of a router that chooses groups of experts first."""


def latent_weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a "deepseek2": latent attention with the matrices of its keys and
    values apart, those of the keys transposed."""
    ours, heads = f"{BLOCK}.mixer", config.get("num_attention_heads")
    q = "attn_q" if config.get("q_lora_rank") is None else "attn_q_b"
    widths = (config.get("qk_nope_head_dim"), config.get("v_head_dim"))
    return [
        *ends(),
        *rows(f"{BLOCK}.{{mixer,ffn}}_residual.pre", f"{THEIRS}.{{attn_norm,ffn_norm}}"),
        Row(f"{ours}.q", f"{THEIRS}.{q}"),
        *rows(f"{ours}.q_{{down,norm}}", f"{THEIRS}.attn_{{q_a,q_a_norm}}"),
        *rows(f"{ours}.kv_{{down,norm}}", f"{THEIRS}.attn_{{kv_a_mqa,kv_a_norm}}"),
        Row(f"{ours}.kv", (f"{THEIRS}.attn_k_b", f"{THEIRS}.attn_v_b"), Absorbed(heads, widths)),
        Row(f"{ours}.o", f"{THEIRS}.attn_output"),
        *rows(f"{BLOCK}.ffn.{{gate,up,down}}", f"{THEIRS}.ffn_{{gate,up,down}}"),
        Row(f"{BLOCK}.ffn.router.gate", f"{THEIRS}.ffn_gate_inp"),
        Row(f"{BLOCK}.ffn.router.balance", f"{THEIRS}.exp_probs_b.bias"),
        *expert_rows(),
        *rows(f"{BLOCK}.ffn.shared.{{gate,up,down}}", f"{THEIRS}.ffn_{{gate,up,down}}_shexp"),
    ]


def split_latents(config: HfConfig, tensors: dict[str, mx.array], packed: dict[str, Any]) -> None:
    """Bring the one matrix of keys and values of an older "deepseek2" into the newer layout.

    Raises:
        ConvertError: a matrix of another shape; names it.
    """
    names = [name for name in tensors if name.endswith(".attn_kv_b.weight")]
    if not names:
        return
    with readable(config, config.model_type):
        heads, rank = config.get("num_attention_heads"), config.get("kv_lora_rank")
        widths = (config.get("qk_nope_head_dim"), config.get("v_head_dim"))
        expected = (heads * sum(widths), rank)
        for name in names:
            if (shape := tensors[name].shape) != expected:
                raise ConvertError(
                    f"{config.where}: {name} has the shape {list(shape)}, which has to be "
                    f"{list(expected)} for {heads} heads with keys of {widths[0]} features without "
                    f"the rotated ones, values of {widths[1]} and a latent of {rank}."
                )
            parts = Absorbed(heads, widths).save([tensors.pop(name)])
            packed.pop(name, None)
            for letter, part in zip("kv", parts, strict=True):
                tensors[name.replace("_kv_b", f"_{letter}_b")] = part


LITE_LAYERS = (26, 27)
"""Layers of DeepSeek-V2-Lite, by which llama.cpp knows that queries have full rank."""


def lacking_latents(config: HfConfig) -> str:
    """Return what is lacking: a model without shared experts, or with the layers of V2-Lite and
    factored queries."""
    kind, layers = config.model_type, config.get("num_hidden_layers")
    if not config.get("n_shared_experts"):
        return f"llama.cpp has shared experts in every {kind}, and this one has none."
    if layers not in LITE_LAYERS or config.get("q_lora_rank") is None:
        return ""
    return (
        f"llama.cpp has queries of full rank (q_lora_rank = null) in a {kind} of {layers} layers, "
        f"and this one has q_lora_rank = {config.get('q_lora_rank')}."
    )


LATENTS = {
    "deepseek2 with sigmoids": Architecture(
        {"deepseek_v3": DEEPSEEK_V3},
        latent_weights,
        keys=LATENT_KEYS | GROUPED_KEYS,
        positions=LatentRotary(),
        fixed={
            "attention_bias": False,
            "scoring_func": "sigmoid",
            "topk_method": "noaux_tc",
            "rms_norm_eps": LATENT_EPS,
            "rope_interleave": True,
            "num_nextn_predict_layers": 0,
        },
        constants={"expert_gating_func": SIGMOID},
        zeros=("q_lora_rank",),
        lacks=lacking_latents,
        absent={"q_lora_rank": None, "norm_topk_prob": False, "n_group": 1, "topk_group": 1},
        name="deepseek2",
        marks={"expert_gating_func": SIGMOID},
    ),
    "deepseek2": Architecture(
        {"deepseek_v2": DEEPSEEK_V2},
        latent_weights,
        keys=LATENT_KEYS,
        positions=LatentRotary(),
        # Groups of experts are scored by their two best there, by the best in this family.
        fixed={
            "attention_bias": False,
            "topk_method": "greedy",
            "norm_topk_prob": False,
            "rms_norm_eps": LATENT_EPS,
        },
        constants={
            "expert_gating_func": SOFTMAX,
            "expert_weights_norm": False,
            "expert_group_count": 1,
            "expert_group_used_count": 1,
        },
        zeros=("q_lora_rank",),
        lacks=lacking_latents,
        absent={"q_lora_rank": None},
    ),
}
"""By llama.cpp's name, or one of our own where two share it."""
