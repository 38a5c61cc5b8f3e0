"""Hunyuan MoE: Hunyuan's attention, and a network that all tokens share beside their experts.

Defaults are those of `HunYuanMoEV1Config`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import FlatModel, config_writer
from ..rope import rotary
from ..rows import BLOCK, Row, rows, without
from ..transforms import Stack
from .hunyuan import turned_then_normed
from .hunyuan import weights as dense_weights
from .llama import BIASED, HF_BLOCK, LLAMA, glu


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a HunYuanMoEV1Config."""
    table = turned_then_normed(config)
    table["block"]["ffn"] = {
        "kind": "moe",
        "n_experts": one(config, "num_experts"),
        "router": {"kind": "top_k", "top_k": one(config, "moe_topk"), "normalize": True},
        "expert": glu(config),
        "shared": glu(config),
    }
    return table


def one(config: HfConfig, key: str) -> int:
    """Return a number that may be given per layer and has to be the same for all.

    Raises:
        ConvertError: layers differ.
    """
    per_layer = config.get(key)
    numbers = set(per_layer) if isinstance(per_layer, list) else {per_layer}
    if len(numbers) > 1:
        raise config.refuse(key, per_layer, "only one number for all layers is")
    return int(numbers.pop())


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a Hunyuan MoE."""
    theirs = f"{HF_BLOCK}.mlp"
    names = "{gate,up,down}"
    return [
        *without(dense_weights(config), f"{BLOCK}.ffn"),
        Row(f"{BLOCK}.ffn.router.gate", f"{theirs}.gate.wg"),
        *rows(f"{BLOCK}.ffn.shared.{names}", f"{theirs}.shared_mlp.{names}_proj"),
        *rows(
            f"{BLOCK}.ffn.experts.{names}",
            f"{theirs}.experts.{{e}}.{names}_proj",
            Stack(),
            one(config, "num_experts"),
        ),
    ]


def routed(view: FlatModel) -> Table:
    """Return the keys of the experts."""
    return {
        "intermediate_size": view.get("block.ffn.expert.hidden_dim"),
        "num_experts": view.get("block.ffn.n_experts"),
        "moe_topk": view.get("block.ffn.router.top_k"),
    }


HUNYUAN_MOE = Family(
    model_types=("hunyuan_v1_moe",),
    architecture="HunYuanMoEV1ForCausalLM",
    model=model,
    weights=weights,
    config=config_writer(BIASED, rotary(), routed),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
