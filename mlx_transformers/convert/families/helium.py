"""Helium: LLaMA whose neighbouring features turn together.

Defaults are those of `HeliumConfig`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import config_writer
from ..rope import rotary
from .llama import BIASED, LLAMA, decoder, weights


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a HeliumConfig."""
    table = decoder(config)
    table["block"]["mixer"]["bias"] = config.get("attention_bias")
    table["position"]["traditional"] = True
    return table


HELIUM = Family(
    model_types=("helium",),
    architecture="HeliumForCausalLM",
    model=model,
    weights=weights,
    config=config_writer(BIASED, rotary(traditional=True)),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
