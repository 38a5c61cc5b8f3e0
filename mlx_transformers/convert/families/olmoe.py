"""OLMoE: OLMo 2's normed queries and keys, norms in front, many small experts.

Defaults are those of `OlmoeConfig`.
"""

from typing import Any

from ..config import HfConfig
from ..family import Family, Table
from ..rope import rotary
from ..view import spelled
from ..weights import Row
from .llama import BIASED, LLAMA, around, decoder
from .qwen2_moe import CHOSEN, experts, mixture

DEFAULTS: Table = {
    "vocab_size": 50304,
    "hidden_size": 2048,
    "intermediate_size": 2048,
    "num_hidden_layers": 16,
    "num_attention_heads": 16,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "num_experts": 64,
    "num_experts_per_tok": 8,
    "norm_topk_prob": False,
    "router_aux_loss_coef": 0.01,
}


def model(config: HfConfig) -> Table:
    """The `[model]` table of an OlmoeConfig."""
    table = normed(config, **DEFAULTS)
    if (bound := config.get("clip_qkv", None)) is not None:
        table["block"]["mixer"]["clip"] = float(bound)
    return table


def normed(config: HfConfig, **defaults: Any) -> Table:
    """What OLMo's models with experts share; `defaults` are those of the config class."""
    config.also("num_experts", "num_local_experts")
    table = decoder(config, bias=config.get("attention_bias", False), **defaults)
    table["block"]["mixer"] |= {"qk_norm": table["norm"], "qk_norm_over": "width"}
    table["block"]["ffn"] = mixture(config, "intermediate_size")
    return table


def weights(config: HfConfig) -> list[Row]:
    """The weight map of an OLMoE."""
    return [*around(), *experts(config.get("num_experts"))]


OLMOE = Family(
    model_types=("olmoe",),
    architecture="OlmoeForCausalLM",
    model=model,
    weights=weights,
    config=spelled(
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
