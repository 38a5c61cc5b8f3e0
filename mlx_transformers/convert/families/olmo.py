"""OLMo 1: layer norms without parameters, queries, keys and values that may be bounded.

Defaults are those of `OlmoConfig`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..rope import rotary
from ..view import biased, spelled
from .llama import BARE, LLAMA, decoder, weights

EPS = 1e-5
"""No key of the config says it."""


def model(config: HfConfig) -> Table:
    """The `[model]` table of an OlmoConfig."""
    bias = config.get("attention_bias", False)
    table = decoder(config, bias=bias, vocab_size=50304, rms_norm_eps=EPS)
    norm = {"kind": "layer_norm", "eps": EPS, "weight": False, "bias": False}
    table["norm"] = table["block"]["norm"] = norm
    if (bound := config.get("clip_qkv", None)) is not None:
        table["block"]["mixer"]["clip"] = float(bound)
    return table


OLMO = Family(
    model_types=("olmo",),
    architecture="OlmoForCausalLM",
    model=model,
    weights=weights,
    config=spelled({**BARE, "attention_bias": biased, "clip_qkv": "block.mixer.clip"}, rotary()),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
