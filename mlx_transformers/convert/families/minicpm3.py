"""MiniCPM 3: DeepSeek's latent attention with MiniCPM's multipliers, and no experts.

Defaults are those of `MiniCPM3Config`.
"""

import math

from ..config import HfConfig
from ..family import Family, Table
from ..rope import rotary
from ..view import View, spelled
from ..weights import Row
from .deepseek import LATENT, latent, latents
from .llama import ENDS, GATED, LLAMA, around, decoder

DEFAULTS: Table = {
    "vocab_size": 73448,
    "hidden_size": 2560,
    "intermediate_size": 6400,
    "num_hidden_layers": 62,
    "num_attention_heads": 40,
    "num_key_value_heads": 40,
    "max_position_embeddings": 32768,
    "initializer_range": 0.1,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
    "attention_bias": False,
    "kv_lora_rank": 256,
    "q_lora_rank": 768,
    "qk_nope_head_dim": 64,
    "qk_rope_head_dim": 32,
    "v_head_dim": None,
}


def model(config: HfConfig) -> Table:
    """The `[model]` table of a MiniCPM3Config."""
    table = decoder(config, **DEFAULTS)
    config.ignore("qk_head_dim")
    table = latent(config, table, neighbours=False)
    depth = config.get("scale_depth", 1.4)
    layers, dim = table["n_layers"], table["dim"]
    mixer = table["block"]["mixer"]
    mixer["value_dim"] = mixer["value_dim"] or dim // mixer["n_heads"]
    table["embed"]["scale"] = float(config.get("scale_emb", 12))
    table["block"]["scale"] = 1.0 if depth is None else depth / math.sqrt(layers)
    table["head"]["scale"] = (config.get("dim_model_base", 256) or dim) / dim
    return table


def weights(config: HfConfig) -> list[Row]:
    """The weight map of a MiniCPM 3."""
    norms = [row for row in around() if "residual" in str(row.ours)]
    return [*ENDS, *norms, *latents(config), *GATED]


def multiplied(view: View) -> Table:
    """Its multipliers."""
    dim, layers = view.number("dim"), view.number("n_layers")
    return {
        "scale_emb": view.get("embed.scale"),
        "scale_depth": view.number("block.scale") * math.sqrt(layers),
        "dim_model_base": view.number("head.scale") * dim,
    }


MINICPM3 = Family(
    model_types=("minicpm3",),
    architecture="MiniCPM3ForCausalLM",
    model=model,
    weights=weights,
    config=spelled(LATENT, rotary(), multiplied),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
