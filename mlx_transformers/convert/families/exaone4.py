"""EXAONE 4: norms behind attention and ffn, normed queries and keys, local layers with positions.

Layers without a window have no positions where others have one. Defaults are those of
`Exaone4Config`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import config_writer
from ..layer_types import FULL, SLIDING, layer_types, layer_types_of, patterned
from ..rope import rotary
from .llama import KEYS, LLAMA, decoder
from .olmo2 import weights


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of an Exaone4Config."""
    table = decoder(config)
    table["block"]["placement"] = "reordered"
    table["block"]["mixer"]["qk_norm"] = table["norm"]
    return patterned(table, sliding_types(config), sides(config))


def sliding_types(config: HfConfig) -> list[str]:
    """Return the attention type of each layer.

    `sliding_window_pattern` counts where `layer_types` is missing alone; published files have a
    word beside it, as in "LLLG".
    """
    window = config.get("sliding_window")
    config.ignore("sliding_window_pattern")

    def default(i: int) -> str:
        return SLIDING if window and (i + 1) % config.get("sliding_window_pattern") else FULL

    return layer_types(config, default)


def sides(config: HfConfig) -> dict[str, Table]:
    """Return what a layer changes by its attention type: a window, or no positions."""
    if not (window := config.get("sliding_window")):
        return {FULL: {}, SLIDING: {}}
    return {FULL: {"position": {"kind": "none"}}, SLIDING: {"mixer": {"window": window}}}


EXAONE4 = Family(
    model_types=("exaone4",),
    architecture="Exaone4ForCausalLM",
    model=model,
    weights=weights,
    config=config_writer(
        {**KEYS, "sliding_window": "block.mixer.window", "layer_types": layer_types_of}, rotary()
    ),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
