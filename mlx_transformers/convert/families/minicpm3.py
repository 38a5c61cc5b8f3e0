"""MiniCPM 3: DeepSeek's latent attention with MiniCPM's multipliers, and no experts.

Defaults are those of `MiniCPM3Config`.
"""

import math

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import FlatModel, config_writer
from ..rope import rotary
from ..rows import Row
from .deepseek import LATENT, latent, latents
from .llama import GATED, LLAMA, OUTER_ROWS, PRE_NORMS, decoder


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a MiniCPM3Config."""
    table = decoder(config)
    config.ignore("qk_head_dim")
    table = latent(config, table, neighbours=False)
    depth = config.get("scale_depth")
    layers, dim = table["n_layers"], table["dim"]
    mixer = table["block"]["mixer"]
    mixer["value_dim"] = mixer["value_dim"] or dim // mixer["n_heads"]
    table["embed"]["scale"] = float(config.get("scale_emb"))
    table["block"]["scale"] = 1.0 if depth is None else depth / math.sqrt(layers)
    table["head"]["scale"] = (config.get("dim_model_base") or dim) / dim
    return table


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a MiniCPM 3."""
    return [*OUTER_ROWS, *PRE_NORMS, *latents(config), *GATED]


def multiplied(view: FlatModel) -> Table:
    """Return the keys of its multipliers."""
    dim, layers = view.number("dim"), view.number("n_layers")
    return {
        "scale_emb": view.get("embed.scale"),
        "scale_depth": view.number("block.scale") * math.sqrt(layers),
        "dim_model_base": round(view.number("head.scale") * dim),
    }


MINICPM3 = Family(
    model_types=("minicpm3",),
    architecture="MiniCPM3ForCausalLM",
    model=model,
    weights=weights,
    config=config_writer(LATENT, rotary(), multiplied),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
