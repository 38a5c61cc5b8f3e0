"""gpt-oss: sinks, a window in every other layer, experts with a bounded gate, YaRN from the start.

Defaults are those of `GptOssConfig`. Files in mxfp4 are refused by their `quantization_config`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import config_writer
from ..layer_types import FULL, SLIDING, layer_types, layer_types_of, window_of, windowed
from ..rope import rotary
from ..rows import BLOCK, Row, rows
from ..transforms import Chain, Interleaved, Swap, Transform
from .llama import BIASED, HF_BLOCK, LLAMA, decoder, outer_rows
from .mixtral import ROUTED

YARN: Table = {
    "rope_type": "yarn",
    "factor": 32.0,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "truncate": False,
    "original_max_position_embeddings": 4096,
}
"""The scaling of a file that names none."""


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a GptOssConfig."""
    table = decoder(config, bias=config.get("attention_bias"))
    config.expect("hidden_act", "silu")
    config.ignore("initial_context_length")
    block = table["block"]
    block["mixer"]["sinks"] = True
    expert = {
        "kind": "clamped_glu",
        "hidden_dim": config.get("intermediate_size"),
        "limit": float(config.get("swiglu_limit")),
        "slope": float(config.get("swiglu_alpha")),
        "bias": True,
    }
    router = {
        "kind": "top_k",
        "top_k": config.get("num_experts_per_tok"),
        "normalize": True,
        "bias": True,
        "balance_loss": config.get("router_aux_loss_coef"),
    }
    experts = config.get("num_local_experts")
    block["ffn"] = {"kind": "moe", "n_experts": experts, "router": router, "expert": expert}
    types = layer_types(config, lambda i: FULL if i % 2 else SLIDING)
    return windowed(table, types, config.get("sliding_window"))


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a gpt-oss: gate and value by turns, matrices the other way round.

    mlx-lm's folders have gate and value apart, and matrices as here.
    """
    ours, theirs = f"{BLOCK}.ffn.experts", f"{HF_BLOCK}.mlp.experts"
    common = [
        *outer_rows(),
        Row(f"{BLOCK}.mixer.sinks", f"{HF_BLOCK}.self_attn.sinks"),
        Row(f"{BLOCK}.ffn.router.gate", f"{HF_BLOCK}.mlp.router"),
    ]
    if any(name.endswith(".experts.gate_proj.weight") for name in config.tensors):
        return [*common, *rows(f"{ours}.{{gate,up,down}}", f"{theirs}.{{gate,up,down}}_proj")]
    swapped: Transform = Chain(Swap(), Interleaved())
    return [
        *common,
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
    config=config_writer(
        {
            **BIASED,
            **ROUTED,
            "swiglu_limit": "block.ffn.expert.limit",
            "swiglu_alpha": "block.ffn.expert.slope",
            "sliding_window": window_of,
            "layer_types": layer_types_of,
        },
        rotary(),
        hidden_act="silu",
    ),
    # the base of a file wins over that of the scaling of the class
    defaults={"rope_parameters": YARN},
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
