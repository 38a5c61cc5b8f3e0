"""Youtu: LLaMA with DeepSeek-V3's latent attention, and no experts.

Defaults are those of `YoutuConfig`.
"""

import math

from ..config import HfConfig
from ..family import Family, Table
from ..view import spelled
from ..weights import Row
from .deepseek import LATENT, latent, latents, paired, turned
from .llama import ENDS, GATED, LLAMA, around, decoder

DEFAULTS: Table = {
    "vocab_size": 128256,
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "max_position_embeddings": 131072,
    "tie_word_embeddings": True,
    "attention_bias": False,
    "initializer_range": None,
    "kv_lora_rank": 512,
    "q_lora_rank": 1536,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
}


def model(config: HfConfig) -> Table:
    """The `[model]` table of a YoutuConfig."""
    table = decoder(config, **DEFAULTS)
    config.ignore("head_dim", "qk_head_dim", "embedding_initializer_range")
    table["init"]["std"] = table["init"]["std"] or 2 / math.sqrt(5 * table["dim"])
    return latent(config, table, neighbours=config.get("rope_interleave", True))


def weights(config: HfConfig) -> list[Row]:
    """The weight map of a Youtu."""
    norms = [row for row in around() if "residual" in str(row.ours)]
    return [*ENDS, *norms, *latents(config), *GATED]


YOUTU = Family(
    model_types=("youtu",),
    architecture="YoutuForCausalLM",
    model=model,
    weights=weights,
    config=spelled(LATENT, turned, paired),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
