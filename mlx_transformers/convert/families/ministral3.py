"""Ministral 3: Mistral whose queries grow with their position, as Llama 4's do.

Defaults are those of `Ministral3Config`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import FlatModel, config_writer
from ..rope import rotary
from .llama import LLAMA, decoder, weights
from .mistral import WINDOWED

GROWTH, EVERY = "llama_4_scaling_beta", "original_max_position_embeddings"


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a Ministral3Config."""
    growth = grown(config)
    table = decoder(config)
    table["position"] |= growth
    if window := config.get("sliding_window"):
        table["block"]["mixer"]["window"] = window
    return table


def grown(config: HfConfig) -> Table:
    """Return the growth of queries with position, taken out of the rope table."""
    for key in ("rope_parameters", "rope_scaling"):
        rope = config.data.get(key)
        if key == "rope_parameters" and rope is None and "rope_scaling" not in config:
            rope = config.get(key)
        if rope and GROWTH in rope:
            spare = (GROWTH, "max_position_embeddings")
            config.data[key] = {name: x for name, x in rope.items() if name not in spare}
            return {"growth": float(rope[GROWTH]), "growth_every": rope[EVERY]}
    return {}


def growing(view: FlatModel) -> Table:
    """Return the rotary keys with the growth of queries."""
    keys = rotary()(view)
    if view.has("block.position.growth_every"):
        keys["rope_parameters"][GROWTH] = view.get("block.position.growth")
        keys["rope_parameters"][EVERY] = view.get("block.position.growth_every")
    return keys


MINISTRAL3 = Family(
    model_types=("ministral3",),
    architecture="Ministral3ForCausalLM",
    model=model,
    weights=weights,
    config=config_writer(WINDOWED, growing),
    defaults={"rope_theta": 1e6},
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
