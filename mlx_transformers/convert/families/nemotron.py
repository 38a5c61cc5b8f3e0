"""Nemotron-4 and Minitron: squared relu without gate, layer norms learned from 1.

Defaults are those of `NemotronConfig`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import biased, config_writer
from ..rope import rotary
from .llama import BASIC_KEYS, LLAMA, decoder, weights
from .starcoder2 import ungated


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a NemotronConfig."""
    bias = config.get("attention_bias")
    norm = {"kind": "layer_norm", "eps": config.get("norm_eps"), "unit_offset": True}
    table = decoder(config, bias=bias, partial=True, gated=False, norm=norm)
    table["block"]["ffn"] = ungated(config, config.get("mlp_bias"))
    return table


NEMOTRON = Family(
    model_types=("nemotron",),
    architecture="NemotronForCausalLM",
    model=model,
    weights=weights,
    config=config_writer(
        {
            **BASIC_KEYS,
            "norm_eps": "norm.eps",
            "attention_bias": biased,
            "mlp_bias": "block.ffn.bias",
        },
        rotary(fraction_key="partial_rotary_factor"),
    ),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
