"""FlexOlmo: OLMo 2's norms behind both halves, with OLMoE's experts.

Defaults are those of `FlexOlmoConfig`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import config_writer
from ..rope import rotary
from ..rows import BLOCK, Row, without
from .llama import BIASED, LLAMA
from .olmo2 import weights as olmo2_weights
from .olmoe import normed
from .qwen2_moe import CHOSEN, experts


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a FlexOlmoConfig."""
    table = normed(config)
    table["block"]["placement"] = "reordered"
    return table


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a FlexOlmo."""
    return [*without(olmo2_weights(config), f"{BLOCK}.ffn"), *experts(config.get("num_experts"))]


FLEX_OLMO = Family(
    model_types=("flex_olmo",),
    architecture="FlexOlmoForCausalLM",
    model=model,
    weights=weights,
    config=config_writer(
        {**BIASED, **CHOSEN, "intermediate_size": "block.ffn.expert.hidden_dim"}, rotary()
    ),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
