"""gpt-oss: sinks, a window in every other layer, experts with a bounded gate, YaRN from the start.

Defaults are those of `GptOssConfig`. Files in mxfp4 are refused by their `quantization_config`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..pattern import FULL, SLIDING, attended, layer_types, windowed
from ..rope import rotary
from ..transforms import Chain, Interleaved, Swap, Transform
from ..view import spelled
from ..weights import Row
from .llama import BIASED, BLOCK, HF_BLOCK, LLAMA, around, decoder
from .mixtral import ROUTED

DEFAULTS: Table = {
    "vocab_size": 201088,
    "hidden_size": 2880,
    "intermediate_size": 2880,
    "num_hidden_layers": 36,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-5,
    "rope_theta": 150000.0,
    "num_local_experts": 128,
    "rope_parameters": {
        "rope_type": "yarn",
        "factor": 32.0,
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "truncate": False,
        "original_max_position_embeddings": 4096,
    },
}


def model(config: HfConfig) -> Table:
    """The `[model]` table of a GptOssConfig."""
    config.also("num_local_experts", "num_experts")
    config.also("num_experts_per_tok", "experts_per_token")
    table = decoder(config, bias=config.get("attention_bias", True), **DEFAULTS)
    config.expect("hidden_act", "silu")
    config.ignore("initial_context_length")
    block = table["block"]
    block["mixer"]["sinks"] = True
    expert = {
        "kind": "clamped_glu",
        "hidden_dim": config.get("intermediate_size"),
        "limit": float(config.get("swiglu_limit", 7.0)),
        "slope": float(config.get("swiglu_alpha", 1.702)),
        "bias": True,
    }
    router = {
        "kind": "top_k",
        "top_k": config.get("num_experts_per_tok", 4),
        "normalize": True,
        "bias": True,
        "balance_loss": config.get("router_aux_loss_coef", 0.001),
    }
    experts = config.get("num_local_experts")
    block["ffn"] = {"kind": "moe", "n_experts": experts, "router": router, "expert": expert}
    types = layer_types(config, lambda i: FULL if i % 2 else SLIDING)
    return windowed(table, types, config.get("sliding_window", 128))


def weights(config: HfConfig) -> list[Row]:
    """The weight map of a gpt-oss: gate and value by turns, matrices the other way round."""
    ours, theirs = f"{BLOCK}.ffn.experts", f"{HF_BLOCK}.mlp.experts"
    swapped: Transform = Chain(Swap(), Interleaved())
    return [
        *around(),
        Row(f"{BLOCK}.mixer.sinks", f"{HF_BLOCK}.self_attn.sinks"),
        Row(f"{BLOCK}.ffn.router.gate", f"{HF_BLOCK}.mlp.router"),
        Row((f"{ours}.gate.weight", f"{ours}.up.weight"), f"{theirs}.gate_up_proj", swapped),
        Row((f"{ours}.gate.bias", f"{ours}.up.bias"), f"{theirs}.gate_up_proj_bias", Interleaved()),
        Row(f"{ours}.down.weight", f"{theirs}.down_proj", Swap()),
        Row(f"{ours}.down.bias", f"{theirs}.down_proj_bias"),
    ]


GPT_OSS = Family(
    model_types=("gpt_oss",),
    architecture="GptOssForCausalLM",
    model=model,
    weights=weights,
    config=spelled(
        {
            **BIASED,
            **ROUTED,
            "swiglu_limit": "block.ffn.expert.limit",
            "swiglu_alpha": "block.ffn.expert.slope",
            "sliding_window": "block.mixer.window",
            "layer_types": attended,
        },
        rotary(),
        hidden_act="silu",
    ),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
