"""Mistral: LLaMA with a sliding window; Ministral has it in some layers.

Defaults are those of `MistralConfig` and `MinistralConfig`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import PathOrFn, config_writer
from ..layer_types import FULL, SLIDING, layer_types, layer_types_of, windowed
from ..rope import rotary
from .llama import KEYS, LLAMA, decoder, weights


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a MistralConfig."""
    table = decoder(config)
    if window := config.get("sliding_window"):
        table["block"]["mixer"]["window"] = window
    return table


def model_by_layer(config: HfConfig) -> Table:
    """Return the `[model]` table of a MinistralConfig: some layers have the window."""
    table = decoder(config)
    window = config.get("sliding_window")
    types = layer_types(config, lambda i: SLIDING if window else FULL)
    return windowed(table, types, window)


WINDOWED: dict[str, PathOrFn] = {**KEYS, "sliding_window": "block.mixer.window"}

MISTRAL = Family(
    model_types=("mistral",),
    architecture="MistralForCausalLM",
    model=model,
    weights=weights,
    config=config_writer(WINDOWED, rotary()),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)

MINISTRAL = Family(
    model_types=("ministral",),
    architecture="MinistralForCausalLM",
    model=model_by_layer,
    weights=weights,
    config=config_writer({**WINDOWED, "layer_types": layer_types_of}, rotary()),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
