"""Seed-OSS: LLaMA with biases on q, k and v, and wide heads.

Defaults are those of `SeedOssConfig`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..rope import rotary
from ..view import spelled
from .llama import KEYS, LLAMA, decoder, weights

DEFAULTS: Table = {
    "vocab_size": 155136,
    "intermediate_size": 27648,
    "num_hidden_layers": 64,
    "num_attention_heads": 80,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 524288,
    "attention_dropout": 0.1,
}


def model(config: HfConfig) -> Table:
    """The `[model]` table of a SeedOssConfig."""
    table = decoder(config, **DEFAULTS)
    block = table["block"]
    block["mixer"]["bias"] = config.get("attention_bias", True)
    block["mixer"]["out_bias"] = config.get("attention_out_bias", False)
    block["dropout"] = float(config.get("residual_dropout", 0.1))
    return table


SEED_OSS = Family(
    model_types=("seed_oss",),
    architecture="SeedOssForCausalLM",
    model=model,
    weights=weights,
    config=spelled(
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
