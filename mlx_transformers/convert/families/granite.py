"""Granite: LLaMA with four multipliers: of embeddings, of scores, of residuals, of logits.

Defaults are those of `GraniteConfig`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import PathOrFn, config_writer
from ..rope import rotary
from .llama import BIASED, LLAMA, decoder, weights


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a GraniteConfig."""
    return multiplied(config, decoder(config, bias=config.get("attention_bias")))


def multiplied(config: HfConfig, table: Table) -> Table:
    """Return a table with Granite's four multipliers."""
    table["embed"]["scale"] = float(config.get("embedding_multiplier"))
    table["block"]["scale"] = float(config.get("residual_multiplier"))
    table["block"]["mixer"]["scale"] = float(config.get("attention_multiplier"))
    table["head"]["scale"] = 1.0 / config.get("logits_scaling")
    return table


MULTIPLIED: dict[str, PathOrFn] = {
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
    config=config_writer({**MULTIPLIED, "mlp_bias": "block.ffn.bias"}, rotary()),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
