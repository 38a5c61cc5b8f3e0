"""Arcee's AFM: LLaMA with a squared relu and no gate.

Defaults are those of `ArceeConfig`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..rope import rotary
from ..view import spelled
from .llama import BIASED, LLAMA, decoder, weights
from .starcoder2 import ungated

DEFAULTS: Table = {
    "hidden_size": 2560,
    "intermediate_size": 18432,
    "hidden_act": "relu2",
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
}


def model(config: HfConfig) -> Table:
    """The `[model]` table of an ArceeConfig."""
    table = decoder(config, bias=config.get("attention_bias", False), **DEFAULTS)
    table["block"]["ffn"] = ungated(config, config.get("mlp_bias", False))
    return table


ARCEE = Family(
    model_types=("arcee",),
    architecture="ArceeForCausalLM",
    model=model,
    weights=weights,
    config=spelled({**BIASED, "mlp_bias": "block.ffn.bias"}, rotary()),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
