"""Youtu: LLaMA with DeepSeek-V3's latent attention, and no experts.

Defaults are those of `YoutuConfig`.
"""

import math

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import config_writer
from ..rows import Row
from .deepseek import LATENT, latent, latents, paired, turned
from .llama import GATED, LLAMA, OUTER_ROWS, PRE_NORMS, decoder


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a YoutuConfig."""
    table = decoder(config)
    config.ignore("head_dim", "qk_head_dim", "embedding_initializer_range")
    table["init"]["std"] = table["init"]["std"] or 2 / math.sqrt(5 * table["dim"])
    return latent(config, table, neighbours=config.get("rope_interleave"))


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a Youtu."""
    return [*OUTER_ROWS, *PRE_NORMS, *latents(config), *GATED]


YOUTU = Family(
    model_types=("youtu",),
    architecture="YoutuForCausalLM",
    model=model,
    weights=weights,
    config=config_writer(LATENT, turned, paired),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
