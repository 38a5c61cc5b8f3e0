"""OLMo 1: layer norms without parameters, queries, keys and values that may be bounded.

Defaults are those of `OlmoConfig`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import biased, config_writer
from ..rope import rotary
from .llama import BASIC_KEYS, LLAMA, decoder, weights

EPS = 1e-5
"""No key of the config says it."""


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of an OlmoConfig."""
    bias = config.get("attention_bias")
    norm = {"kind": "layer_norm", "eps": EPS, "weight": False, "bias": False}
    table = decoder(config, bias=bias, norm=norm)
    if (bound := config.get("clip_qkv")) is not None:
        table["block"]["mixer"]["clip"] = float(bound)
    return table


OLMO = Family(
    model_types=("olmo",),
    architecture="OlmoForCausalLM",
    model=model,
    weights=weights,
    config=config_writer(
        {**BASIC_KEYS, "attention_bias": biased, "clip_qkv": "block.mixer.clip"}, rotary()
    ),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
