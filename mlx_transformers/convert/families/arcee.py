"""Arcee's AFM: LLaMA with a squared relu and no gate.

Defaults are those of `ArceeConfig`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import config_writer
from ..rope import rotary
from .llama import BIASED, LLAMA, decoder, weights
from .starcoder2 import ungated


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of an ArceeConfig."""
    table = decoder(config, bias=config.get("attention_bias"))
    table["block"]["ffn"] = ungated(config, config.get("mlp_bias"))
    return table


ARCEE = Family(
    model_types=("arcee",),
    architecture="ArceeForCausalLM",
    model=model,
    weights=weights,
    config=config_writer({**BIASED, "mlp_bias": "block.ffn.bias"}, rotary()),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
