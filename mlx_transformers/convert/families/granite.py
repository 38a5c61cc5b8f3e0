"""Granite: LLaMA with four multipliers: of embeddings, of scores, of residuals, of logits.

Defaults are those of `GraniteConfig`.
"""

from ..config import HfConfig
from ..family import Family, Table
from .llama import LLAMA, decoder, weights


def model(config: HfConfig) -> Table:
    """The `[model]` table of a GraniteConfig."""
    return multiplied(config, decoder(config, bias=config.get("attention_bias", False)))


def multiplied(config: HfConfig, table: Table) -> Table:
    """A table with Granite's four multipliers."""
    table["embed"]["scale"] = float(config.get("embedding_multiplier", 1.0))
    table["block"]["scale"] = float(config.get("residual_multiplier", 1.0))
    table["block"]["mixer"]["scale"] = float(config.get("attention_multiplier", 1.0))
    table["head"]["scale"] = 1.0 / config.get("logits_scaling", 1.0)
    return table


GRANITE = Family(
    model_types=("granite",),
    architecture="GraniteForCausalLM",
    model=model,
    weights=weights,
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
