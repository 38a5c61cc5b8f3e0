"""LFM2 MoE: LFM2 whose later layers have experts, chosen by a sigmoid and a balancing bias.

Defaults are those of `Lfm2MoeConfig`.
"""

from ...core.errors import ConvertError
from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import FlatModel, config_writer
from ..layer_types import patterned
from ..rope import rotary
from ..rows import BLOCK, Row, rows
from ..transforms import Stack
from .lfm2 import LFM2_KEYS, decoder, mixer_names, mixers
from .lfm2 import weights as lfm2_weights
from .llama import HF_BLOCK, LLAMA
from .mixtral import numbered
from .qwen2_moe import CHOSEN


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of an Lfm2MoeConfig."""
    config.expect("use_expert_bias", True)
    table = decoder(config, config.get("intermediate_size"))
    expert = {**table["block"]["ffn"], "hidden_dim": config.get("moe_intermediate_size")}
    router = {
        "kind": "sigmoid",
        "top_k": config.get("num_experts_per_tok"),
        "normalize": config.get("norm_topk_prob"),
        "scale": float(config.get("routed_scaling_factor")),
    }
    moe = {
        "kind": "moe",
        "n_experts": config.get("num_experts"),
        "router": router,
        "expert": expert,
    }
    dense, ours = config.get("num_dense_layers"), mixers(config)
    ffns: dict[str, Table] = {"": {}, "_experts": {"ffn": moe}}
    names = [name + ("" if i < dense else "_experts") for i, name in enumerate(mixer_names(config))]
    variants = {f"{m}{f}": ours[m] | ffns[f] for m in ours for f in ffns}
    return patterned(table, names, variants)


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of an LFM2 MoE."""
    theirs = f"{HF_BLOCK}.feed_forward"
    experts = f"{theirs}.experts.{{e}}.{{w1,w3,w2}}"
    return [
        *lfm2_weights(config),
        Row(f"{BLOCK}.ffn.router.gate", f"{theirs}.gate"),
        Row(f"{BLOCK}.ffn.router.balance", f"{theirs}.expert_bias"),
        *rows(f"{BLOCK}.ffn.experts.{{gate,up,down}}", experts, Stack(), config.get("num_experts")),
    ]


def dense_start(view: FlatModel) -> int:
    """Return the number of layers before the first with experts.

    Raises:
        ConvertError: no layer has experts.
    """
    sparse = [layer["ffn"]["kind"] == "moe" for layer in view.layers]
    if True not in sparse:
        raise ConvertError("No layer has experts, and an LFM2 MoE has some: export it as an LFM2.")
    return sparse.index(True)


LFM2_MOE = Family(
    model_types=("lfm2_moe",),
    architecture="Lfm2MoeForCausalLM",
    model=model,
    weights=weights,
    config=config_writer(
        {
            **LFM2_KEYS,
            **{key: path for key, path in CHOSEN.items() if key != "router_aux_loss_coef"},
            "moe_intermediate_size": "block.ffn.expert.hidden_dim",
            "routed_scaling_factor": "block.ffn.router.scale",
            "num_dense_layers": dense_start,
        },
        rotary(),
    ),
    renames=(*LLAMA.renames, *numbered(r"feed_forward(?:\.experts\.\d+)?")),
    tied=LLAMA.tied,
)
