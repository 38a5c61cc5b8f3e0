"""Mistral: LLaMA with a sliding window; Ministral has it in some layers.

Defaults are those of `MistralConfig` and `MinistralConfig`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..pattern import FULL, SLIDING, attended, layer_types, windowed
from ..rope import rotary
from ..view import Told, spelled
from .llama import KEYS, LLAMA, decoder, weights

DEFAULTS: Table = {
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "max_position_embeddings": 131072,
}


def model(config: HfConfig) -> Table:
    """The `[model]` table of a MistralConfig."""
    table = decoder(config, **DEFAULTS)
    if window := config.get("sliding_window", 4096):
        table["block"]["mixer"]["window"] = window
    return table


def model_by_layer(config: HfConfig) -> Table:
    """The `[model]` table of a MinistralConfig: some layers with the window, some without."""
    table = decoder(config, **DEFAULTS)
    window = config.get("sliding_window", 4096)
    types = layer_types(config, lambda i: SLIDING if window else FULL)
    return windowed(table, types, window)


WINDOWED: dict[str, Told] = {**KEYS, "sliding_window": "block.mixer.window"}

MISTRAL = Family(
    model_types=("mistral",),
    architecture="MistralForCausalLM",
    model=model,
    weights=weights,
    config=spelled(WINDOWED, rotary()),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)

MINISTRAL = Family(
    model_types=("ministral",),
    architecture="MinistralForCausalLM",
    model=model_by_layer,
    weights=weights,
    config=spelled({**WINDOWED, "layer_types": attended}, rotary()),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
