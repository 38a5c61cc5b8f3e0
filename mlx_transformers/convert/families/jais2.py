"""Jais 2: LLaMA with layer norms, biases, and a squared relu without gate.

Defaults are those of `Jais2Config`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import biased, config_writer
from ..rope import rotary
from .llama import BASIC_KEYS, LLAMA, decoder, weights
from .starcoder2 import ungated


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a Jais2Config."""
    norm = {"kind": "layer_norm", "eps": config.get("layer_norm_eps")}
    table = decoder(config, bias=config.get("attention_bias"), gated=False, norm=norm)
    table["block"]["ffn"] = ungated(config, config.get("mlp_bias"))
    return table


JAIS2 = Family(
    model_types=("jais2",),
    architecture="Jais2ForCausalLM",
    model=model,
    weights=weights,
    config=config_writer(
        {
            **BASIC_KEYS,
            "layer_norm_eps": "norm.eps",
            "attention_bias": biased,
            "mlp_bias": "block.ffn.bias",
        },
        rotary(),
    ),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
