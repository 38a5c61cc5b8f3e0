"""Ministral 3: Mistral whose queries grow with their position, as Llama 4's do.

Defaults are those of `Ministral3Config`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..rope import rotary
from ..view import View, spelled
from .llama import LLAMA, decoder, weights
from .mistral import DEFAULTS as MISTRAL
from .mistral import WINDOWED

GROWTH, EVERY = "llama_4_scaling_beta", "original_max_position_embeddings"
DEFAULTS: Table = MISTRAL | {
    "vocab_size": 131072,
    "num_hidden_layers": 34,
    "head_dim": 128,
    "max_position_embeddings": 262144,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1e6,
    "rope_parameters": {
        "rope_type": "yarn",
        "factor": 16.0,
        EVERY: 16384,
        "mscale": 1.0,
        "mscale_all_dim": 1.0,
        GROWTH: 0.1,
    },
}


def model(config: HfConfig) -> Table:
    """The `[model]` table of a Ministral3Config."""
    growth = grown(config)
    table = decoder(config, **DEFAULTS)
    table["position"] |= growth
    if window := config.get("sliding_window", None):
        table["block"]["mixer"]["window"] = window
    return table


def grown(config: HfConfig) -> Table:
    """How queries grow, taken out of the table of the positions."""
    for key in ("rope_parameters", "rope_scaling"):
        told = config.data.get(key)
        if key == "rope_parameters" and told is None and "rope_scaling" not in config:
            told = DEFAULTS[key]
        if told and GROWTH in told:
            spare = (GROWTH, "max_position_embeddings")
            config.data[key] = {name: x for name, x in told.items() if name not in spare}
            return {"growth": float(told[GROWTH]), "growth_every": told[EVERY]}
    return {}


def growing(view: View) -> Table:
    """The positions, with how queries grow."""
    said = rotary()(view)
    if view.has("block.position.growth_every"):
        said["rope_parameters"][GROWTH] = view.get("block.position.growth")
        said["rope_parameters"][EVERY] = view.get("block.position.growth_every")
    return said


MINISTRAL3 = Family(
    model_types=("ministral3",),
    architecture="Ministral3ForCausalLM",
    model=model,
    weights=weights,
    config=spelled(WINDOWED, growing),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
