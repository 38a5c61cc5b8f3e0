"""Granite: LLaMA with four multipliers: of embeddings, of scores, of residuals, of logits.

Defaults are those of `GraniteConfig`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..rope import rotary
from ..view import Told, spelled
from .llama import BIASED, LLAMA, decoder, weights


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


MULTIPLIED: dict[str, Told] = {
    **BIASED,
    "embedding_multiplier": "embed.scale",
    "residual_multiplier": "block.scale",
    "attention_multiplier": "block.mixer.scale",
    "logits_scaling": lambda view: 1.0 / view.number("head.scale"),
}

GRANITE = Family(
    model_types=("granite",),
    architecture="GraniteForCausalLM",
    model=model,
    weights=weights,
    config=spelled({**MULTIPLIED, "mlp_bias": "block.ffn.bias"}, rotary()),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
