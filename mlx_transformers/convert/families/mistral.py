"""Mistral: LLaMA with a sliding window. Defaults are those of `MistralConfig`."""

from ..config import HfConfig
from ..family import Family, Table
from .llama import LLAMA, decoder, decoder_config, weights


def model(config: HfConfig) -> Table:
    """The `[model]` table of a MistralConfig."""
    table = decoder(config, n_kv_heads=8, eps=1e-6, hidden_dim=14336, context=131072)
    if window := config.get("sliding_window", 4096):
        table["block"]["mixer"]["window"] = window
    return table


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
