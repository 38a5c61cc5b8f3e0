"""Hunyuan MoE: Hunyuan's attention, and a network that all tokens share beside their experts.

Defaults are those of `HunYuanMoEV1Config`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..rope import rotary
from ..transforms import Stack
from ..view import View, spelled
from ..weights import Row, rows
from .hunyuan import turned_then_normed
from .hunyuan import weights as dense_weights
from .llama import BIASED, BLOCK, GATED, HF_BLOCK, LLAMA, glu

DEFAULTS: Table = {"vocab_size": 290943, "rms_norm_eps": 1e-5}


def model(config: HfConfig) -> Table:
    """The `[model]` table of a HunYuanMoEV1Config."""
    table = turned_then_normed(config, **DEFAULTS)
    table["block"]["ffn"] = {
        "kind": "moe",
        "n_experts": one(config, "num_experts"),
        "router": {"kind": "top_k", "top_k": one(config, "moe_topk"), "normalize": True},
        "expert": glu(config),
        "shared": glu(config),
    }
    return table


def one(config: HfConfig, key: str) -> int:
    """A number that may be told for each layer, and has to be the same for all.

    Raises:
        ConvertError: layers differ.
    """
    given = config.get(key, 1)
    numbers = set(given) if isinstance(given, list) else {given}
    if len(numbers) > 1:
        raise config.refuse(key, given, "only one number for all layers is")
    return int(numbers.pop())


def weights(config: HfConfig) -> list[Row]:
    """The weight map of a Hunyuan MoE."""
    dense = {row.ours for row in GATED}
    theirs = f"{HF_BLOCK}.mlp"
    names = "{gate,up,down}"
    return [
        *(row for row in dense_weights(config) if row.ours not in dense),
        Row(f"{BLOCK}.ffn.router.gate", f"{theirs}.gate.wg"),
        *rows(f"{BLOCK}.ffn.shared.{names}", f"{theirs}.shared_mlp.{names}_proj"),
        *rows(
            f"{BLOCK}.ffn.experts.{names}",
            f"{theirs}.experts.{{e}}.{names}_proj",
            Stack(),
            one(config, "num_experts"),
        ),
    ]


def routed(view: View) -> Table:
    """The experts."""
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
    config=spelled(BIASED, rotary(), routed),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
