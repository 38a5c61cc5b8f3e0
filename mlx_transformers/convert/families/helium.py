"""Helium: LLaMA whose neighbouring features turn together.

Defaults are those of `HeliumConfig`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..rope import rotary
from ..view import spelled
from .llama import BIASED, LLAMA, decoder, weights

DEFAULTS: Table = {
    "vocab_size": 48000,
    "hidden_size": 2560,
    "intermediate_size": 7040,
    "num_hidden_layers": 24,
    "num_attention_heads": 20,
    "num_key_value_heads": 20,
    "head_dim": 128,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-8,
    "rope_theta": 100000.0,
}


def model(config: HfConfig) -> Table:
    """The `[model]` table of a HeliumConfig."""
    table = decoder(config, **DEFAULTS)
    table["block"]["mixer"]["bias"] = config.get("attention_bias", False)
    table["position"]["traditional"] = True
    return table


HELIUM = Family(
    model_types=("helium",),
    architecture="HeliumForCausalLM",
    model=model,
    weights=weights,
    config=spelled(BIASED, rotary(traditional=True)),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
