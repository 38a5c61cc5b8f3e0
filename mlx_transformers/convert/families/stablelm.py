"""StableLM 2: layer norms, a quarter of each head turns, the ffn perhaps beside attention.

Defaults are those of `StableLmConfig`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import config_writer, is_, present
from ..rope import rotary
from ..rows import BLOCK, Row
from .cohere import each_head
from .llama import BASIC_KEYS, HF_BLOCK, LLAMA, decoder
from .llama import weights as llama_weights


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a StableLmConfig."""
    norm = {"kind": "layer_norm", "eps": config.get("layer_norm_eps")}
    table = decoder(config, partial=True, norm=norm)
    block = table["block"]
    block["mixer"]["bias"] = config.get("use_qkv_bias")
    if config.get("qk_layernorm"):
        block["mixer"] |= {"qk_norm": norm | {"bias": False}, "qk_norm_over": "each_head"}
    if config.get("use_parallel_residual"):
        block["arrangement"] = "parallel"
    block["dropout"] = float(config.get("hidden_dropout"))
    return table


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a StableLM."""
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
    config=config_writer(
        {
            **BASIC_KEYS,
            "layer_norm_eps": "norm.eps",
            "use_qkv_bias": "block.mixer.bias",
            "qk_layernorm": present("block.mixer.qk_norm"),
            "use_parallel_residual": is_("block.arrangement", "parallel"),
            "hidden_dropout": "block.dropout",
        },
        rotary(fraction_key="partial_rotary_factor"),
    ),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
