"""Gemma 1: LLaMA with gelu, wide heads, scaled embeddings, norms learned from 1.

Defaults are those of `GemmaConfig`.
"""

from typing import Any

from ..config import HfConfig
from ..family import Family, Table
from ..rope import rotary
from ..view import Told, activation, spelled
from .llama import BIASED, LLAMA, decoder, weights

DEFAULTS: Table = {
    "vocab_size": 256000,
    "hidden_size": 3072,
    "intermediate_size": 24576,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "head_dim": 256,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
}


def model(config: HfConfig) -> Table:
    """The `[model]` table of a GemmaConfig."""
    # "gelu" is how the first files misspelt the tanh form, which Gemma was trained with
    config.ignore("hidden_activation")
    table = gemma(config, activation="hidden_act", **DEFAULTS)
    if config.get("hidden_act") == "gelu":
        table["block"]["ffn"]["activation"] = "gelu_tanh"
    return table


def gemma(config: HfConfig, *, activation: str, **defaults: Any) -> Table:
    """What all Gemmas share; the activation is under the key `activation`."""
    config.assume(hidden_act="gelu_pytorch_tanh", hidden_activation="gelu_pytorch_tanh")
    if config.get("use_bidirectional_attention", None):
        config.expect("use_bidirectional_attention", False)
    bias = config.get("attention_bias", False)
    table = decoder(config, bias=bias, **{"hidden_act": "gelu", **defaults})
    norm = {**table["norm"], "unit_offset": True}
    table["norm"] = table["block"]["norm"] = norm
    table["block"]["ffn"]["activation"] = config.activation(activation, "gelu_pytorch_tanh")
    table["embed"]["scale"] = "sqrt_dim"
    return table


KEYS: dict[str, Told] = {**BIASED, "hidden_activation": activation("block.ffn.activation")}
"""Where our values of keys stand that all Gemmas share."""

GEMMA = Family(
    model_types=("gemma",),
    architecture="GemmaForCausalLM",
    model=model,
    weights=weights,
    config=spelled(KEYS, rotary()),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
