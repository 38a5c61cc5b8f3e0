"""StableLM 2: layer norms, a quarter of each head turns, the ffn perhaps beside attention.

Defaults are those of `StableLmConfig`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..rope import rotary
from ..view import given, is_, spelled
from ..weights import Row
from .cohere import each_head
from .llama import BARE, BLOCK, HF_BLOCK, LLAMA, decoder
from .llama import weights as llama_weights

DEFAULTS: Table = {
    "vocab_size": 50304,
    "hidden_size": 2560,
    "intermediate_size": 6912,
    "num_key_value_heads": 32,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 0.0,
}


def model(config: HfConfig) -> Table:
    """The `[model]` table of a StableLmConfig."""
    table = decoder(config, fraction=0.25, **DEFAULTS)
    norm = {"kind": "layer_norm", "eps": config.get("layer_norm_eps", 1e-5)}
    block = table["block"]
    table["norm"] = block["norm"] = norm
    block["mixer"]["bias"] = config.get("use_qkv_bias", False)
    if config.get("qk_layernorm", False):
        block["mixer"] |= {"qk_norm": norm | {"bias": False}, "qk_norm_over": "each_head"}
    if config.get("use_parallel_residual", False):
        block["arrangement"] = "parallel"
    block["dropout"] = float(config.get("hidden_dropout", 0.0))
    return table


def weights(config: HfConfig) -> list[Row]:
    """The weight map of a StableLM."""
    heads = config.get("num_attention_heads")
    groups = config.get("num_key_value_heads") or heads
    norms = [
        Row(ours, f"{HF_BLOCK}.self_attn.{name[0]}_layernorm.norms.{h}")
        for name, n in (("q_norm", heads), ("k_norm", groups))
        for h, ours in enumerate(each_head(name, n))
    ]
    return [
        *llama_weights(config),
        Row(f"{BLOCK}.residual.pre", f"{HF_BLOCK}.input_layernorm"),
        *norms,
    ]


STABLELM = Family(
    model_types=("stablelm",),
    architecture="StableLmForCausalLM",
    model=model,
    weights=weights,
    config=spelled(
        {
            **BARE,
            "layer_norm_eps": "norm.eps",
            "use_qkv_bias": "block.mixer.bias",
            "qk_layernorm": given("block.mixer.qk_norm"),
            "use_parallel_residual": is_("block.arrangement", "parallel"),
            "hidden_dropout": "block.dropout",
        },
        rotary(fraction_key="partial_rotary_factor"),
    ),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
