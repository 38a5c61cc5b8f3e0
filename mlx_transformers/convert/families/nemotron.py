"""Nemotron-4 and Minitron: squared relu without gate, layer norms learned from 1.

Defaults are those of `NemotronConfig`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..rope import rotary
from ..view import spelled
from .llama import BARE, LLAMA, biased, decoder, weights
from .starcoder2 import ungated

DEFAULTS: Table = {
    "vocab_size": 256000,
    "hidden_size": 6144,
    "intermediate_size": 24576,
    "num_attention_heads": 48,
    "hidden_act": "relu2",
    "max_position_embeddings": 4096,
    "initializer_range": 0.0134,
    "rms_norm_eps": 0.0,
}


def model(config: HfConfig) -> Table:
    """The `[model]` table of a NemotronConfig."""
    bias = config.get("attention_bias", False)
    table = decoder(config, bias=bias, fraction=0.5, **DEFAULTS)
    norm = {"kind": "layer_norm", "eps": config.get("norm_eps", 1e-5), "unit_offset": True}
    table["norm"] = table["block"]["norm"] = norm
    table["block"]["ffn"] = ungated(config, config.get("mlp_bias", False))
    return table


NEMOTRON = Family(
    model_types=("nemotron",),
    architecture="NemotronForCausalLM",
    model=model,
    weights=weights,
    config=spelled(
        {**BARE, "norm_eps": "norm.eps", "attention_bias": biased, "mlp_bias": "block.ffn.bias"},
        rotary(fraction_key="partial_rotary_factor"),
    ),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
