"""Seed-OSS: LLaMA with biases on q, k and v, and wide heads.

Defaults are those of `SeedOssConfig`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import config_writer
from ..rope import rotary
from .llama import KEYS, LLAMA, decoder, weights


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a SeedOssConfig."""
    table = decoder(config)
    block = table["block"]
    block["mixer"]["bias"] = config.get("attention_bias")
    block["mixer"]["out_bias"] = config.get("attention_out_bias")
    block["dropout"] = float(config.get("residual_dropout"))
    return table


SEED_OSS = Family(
    model_types=("seed_oss",),
    architecture="SeedOssForCausalLM",
    model=model,
    weights=weights,
    config=config_writer(
        {
            **KEYS,
            "attention_bias": "block.mixer.bias",
            "attention_out_bias": "block.mixer.out_bias",
            "residual_dropout": "block.dropout",
            "mlp_bias": "block.ffn.bias",
        },
        rotary(),
    ),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
