"""Gemma 1: LLaMA with gelu, wide heads, scaled embeddings, norms learned from 1.

Defaults are those of `GemmaConfig`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import PathOrFn, activation, config_writer
from ..rope import rotary
from .llama import BIASED, LLAMA, decoder, glu, weights


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a GemmaConfig."""
    # "gelu" is how the first files misspelt the tanh form, which Gemma was trained with
    table = gemma(config, activation="hidden_act")
    if config.get("hidden_act") == "gelu":
        table["block"]["ffn"]["activation"] = "gelu_tanh"
    return table


def gemma(config: HfConfig, *, activation: str = "hidden_activation") -> Table:
    """Return the table that all Gemmas share; the activation is under the key `activation`."""
    config.ignore("hidden_act", "hidden_activation")
    if config.optional("use_bidirectional_attention"):
        config.expect("use_bidirectional_attention", False)
    bias = bool(config.optional("attention_bias"))
    table = decoder(config, bias=bias, gated=False)
    norm = {**table["norm"], "unit_offset": True}
    table["norm"] = table["block"]["norm"] = norm
    table["block"]["ffn"] = glu(config, activation=activation)
    table["embed"]["scale"] = "sqrt_dim"
    return table


KEYS: dict[str, PathOrFn] = {**BIASED, "hidden_activation": activation("block.ffn.activation")}
"""Recipe paths of the keys that all Gemmas share."""

GEMMA = Family(
    model_types=("gemma",),
    architecture="GemmaForCausalLM",
    model=model,
    weights=weights,
    config=config_writer(KEYS, rotary()),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
