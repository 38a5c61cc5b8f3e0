"""FlexOlmo: OLMo 2's norms behind both halves, with OLMoE's experts.

Defaults are those of `FlexOlmoConfig`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..rope import rotary
from ..view import spelled
from ..weights import Row
from .llama import BIASED, GATED, LLAMA
from .olmo2 import weights as olmo2_weights
from .olmoe import normed
from .qwen2_moe import CHOSEN, experts

DEFAULTS: Table = {
    "vocab_size": 100352,
    "max_position_embeddings": 4096,
    "rope_theta": 500000.0,
    "num_experts": 7,
    "num_experts_per_tok": 5,
    "norm_topk_prob": False,
    "router_aux_loss_coef": 0.01,
}


def model(config: HfConfig) -> Table:
    """The `[model]` table of a FlexOlmoConfig."""
    table = normed(config, **DEFAULTS)
    table["block"]["placement"] = "reordered"
    return table


def weights(config: HfConfig) -> list[Row]:
    """The weight map of a FlexOlmo."""
    dense = {row.ours for row in GATED}
    around = [row for row in olmo2_weights(config) if row.ours not in dense]
    return [*around, *experts(config.get("num_experts"))]


FLEX_OLMO = Family(
    model_types=("flex_olmo",),
    architecture="FlexOlmoForCausalLM",
    model=model,
    weights=weights,
    config=spelled(
        {**BIASED, **CHOSEN, "intermediate_size": "block.ffn.expert.hidden_dim"}, rotary()
    ),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
