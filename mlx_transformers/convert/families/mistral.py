"""Mistral: LLaMA with a sliding window; Ministral has it in some layers.

Defaults are those of `MistralConfig` and `MinistralConfig`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..pattern import FULL, SLIDING, layer_types, windowed
from .llama import LLAMA, decoder, decoder_config, weights

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


def config(table: Table) -> Table:
    """The MistralConfig of a model."""
    block = table["block"]
    return {
        **decoder_config(table),
        "intermediate_size": block["ffn"]["hidden_dim"],
        "hidden_act": block["ffn"]["activation"],
        "sliding_window": block["mixer"].get("window"),
    }


MISTRAL = Family(
    model_types=("mistral",),
    architecture="MistralForCausalLM",
    model=model,
    weights=weights,
    config=config,
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)

MINISTRAL = Family(
    model_types=("ministral",),
    architecture="MinistralForCausalLM",
    model=model_by_layer,
    weights=weights,
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
