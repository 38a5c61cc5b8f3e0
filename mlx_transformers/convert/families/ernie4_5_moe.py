"""ERNIE 4.5 MoE: balanced experts in some layers, chosen by probability, beside shared ones.

Defaults are those of `Ernie4_5_MoeConfig`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import FlatModel, biased, config_writer
from ..layer_types import patterned
from ..rope import rotary
from ..rows import BLOCK, Row, rows
from ..transforms import Reshape
from .ernie4_5 import ERNIE4_5
from .llama import GATED, HF_BLOCK, KEYS, LLAMA, decoder, glu, outer_rows
from .qwen2_moe import experts


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of an Ernie4_5_MoeConfig."""
    bias = config.get("use_bias")
    config.assume({"mlp_bias": bias})
    table = decoder(config, bias=bias)
    config.ignore("router_aux_loss_coef")  # of training
    # layers that look ahead, in a layout of their own: they are not in the model of the logits
    config.ignore("num_nextn_predict_layers")
    # a floor of what gates are divided by, which the sum of the best never comes near
    if (floor := config.get("moe_norm_min")) > 1e-6:
        raise config.refuse("moe_norm_min", floor, "a floor near zero is")
    table["position"]["traditional"] = True
    table["head"]["bias"] = bias
    expert = glu(config, "moe_intermediate_size")
    moe: Table = {
        "kind": "moe",
        "n_experts": config.get("moe_num_experts"),
        "router": {
            "kind": "sigmoid",
            "scores": "softmax",
            "top_k": config.get("moe_k"),
            "normalize": True,
        },
        "expert": expert | {"bias": False},
    }
    if shared := config.get("moe_num_shared_experts"):
        moe["shared"] = expert | {"hidden_dim": expert["hidden_dim"] * shared}
    return patterned(table, layer_ffns(config), {"dense": {}, "sparse": {"ffn": moe}})


def layer_ffns(config: HfConfig) -> list[str]:
    """Return `dense` or `sparse` for each layer."""
    count, every = config.get("num_hidden_layers"), config.get("moe_layer_interval")
    first, last = config.get("moe_layer_start_index"), config.get("moe_layer_end_index")
    last = count - 1 if last == -1 else last
    return [
        "sparse" if first <= i <= last and (i + 1) % every == 0 else "dense" for i in range(count)
    ]


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of an ERNIE 4.5 MoE."""
    theirs, count = f"{HF_BLOCK}.mlp", config.get("moe_num_experts")
    balance = f"{theirs}.moe_statics.e_score_correction_bias"
    names = "{gate,up,down}"
    return [
        *outer_rows(),
        *GATED,
        *experts(count),
        Row(f"{BLOCK}.ffn.router.balance", balance, Reshape((1, count), (count,))),
        *rows(f"{BLOCK}.ffn.shared.{names}", f"{theirs}.shared_experts.{names}_proj"),
    ]


def mixture(view: FlatModel) -> Table:
    """Return the experts and the layers that have them: first, last and interval."""
    sparse = [i for i, layer in enumerate(view.layers) if layer["ffn"]["kind"] == "moe"]
    width = view.number("block.ffn.expert.hidden_dim")
    shared = view.get("block.ffn.shared.hidden_dim") if view.has("block.ffn.shared") else 0
    return {
        "moe_intermediate_size": width,
        "moe_num_experts": view.get("block.ffn.n_experts"),
        "moe_k": view.get("block.ffn.router.top_k"),
        "moe_num_shared_experts": shared // width,
        "moe_layer_start_index": sparse[0],
        "moe_layer_end_index": sparse[-1],
        "moe_layer_interval": sparse[1] - sparse[0] if len(sparse) > 1 else 1,
    }


ERNIE4_5_MOE = Family(
    model_types=("ernie4_5_moe",),
    architecture="Ernie4_5_MoeForCausalLM",
    model=model,
    weights=weights,
    config=config_writer({**KEYS, "use_bias": biased}, rotary(traditional=True), mixture),
    renames=ERNIE4_5.renames,
    spare=(r"^model\.mtp",),
    tied=LLAMA.tied,
)
