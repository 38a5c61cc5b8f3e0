"""OLMoE: OLMo 2's normed queries and keys, norms in front, many small experts.

Defaults are those of `OlmoeConfig`.
"""

from typing import Any

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import config_writer
from ..rope import rotary
from ..rows import Row
from .llama import BIASED, LLAMA, decoder, outer_rows
from .qwen2_moe import CHOSEN, experts, mixture


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of an OlmoeConfig."""
    table = normed(config)
    if (bound := config.get("clip_qkv")) is not None:
        table["block"]["mixer"]["clip"] = float(bound)
    return table


def normed(config: HfConfig, **defaults: Any) -> Table:
    """Return the table that OLMo's models with experts share."""
    table = decoder(config, bias=config.get("attention_bias"), **defaults)
    table["block"]["mixer"] |= {"qk_norm": table["norm"], "qk_norm_over": "width"}
    table["block"]["ffn"] = mixture(config, "intermediate_size")
    return table


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of an OLMoE."""
    return [*outer_rows(), *experts(config.get("num_experts"))]


OLMOE = Family(
    model_types=("olmoe",),
    architecture="OlmoeForCausalLM",
    model=model,
    weights=weights,
    config=config_writer(
        {
            **BIASED,
            **CHOSEN,
            "intermediate_size": "block.ffn.expert.hidden_dim",
            "clip_qkv": "block.mixer.clip",
        },
        rotary(),
    ),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
