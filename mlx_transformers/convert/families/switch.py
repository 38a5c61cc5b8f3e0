"""Switch Transformer: T5 with experts in some layers, each token to one of them.

Defaults are those of `SwitchTransformersConfig`.
"""

from ..config import HfConfig, their_activation
from ..family import Family, Table
from ..flat_model import FlatModel, PathOrFn, config_writer
from ..layer_types import patterned
from ..rows import BLOCK, Row, rows, without
from ..transforms import Stack
from . import t5

MEMBER = t5.Member()
SIDES = ("encoder", "decoder")


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a SwitchTransformersConfig."""
    # noise and precision of training alone; what follows from other keys
    config.ignore("router_jitter_noise", "router_dtype", "add_router_probs", "router_type")
    config.ignore("router_ignore_padding_tokens", "feed_forward_proj", "num_sparse_encoder_layers")
    config.ignore("num_sparse_decoder_layers")
    config.expect("is_gated_act", False)
    table = t5.model(MEMBER, config)
    for side in SIDES:
        dense = table[side]["block"]["ffn"]
        dense["activation"] = config.activation("dense_act_fn")
        sparse = {"ffn": mixture(config, dense)}
        names = layer_ffns(config, side, table[side]["n_layers"])
        table[side] = patterned(table[side], names, {"dense": {}, "sparse": sparse})
    return table


def mixture(config: HfConfig, expert: Table) -> Table:
    """Return the experts of a config."""
    router = {
        "kind": "top_k",
        "top_k": 1,
        "normalize": False,
        "bias": config.get("router_bias"),
        "balance_loss": config.get("router_aux_loss_coef"),
        "z_loss": config.get("router_z_loss_coef"),
    }
    return {
        "kind": "moe",
        "n_experts": config.get("num_experts"),
        "capacity": config.get("expert_capacity"),
        "router": router,
        "expert": expert,
    }


def layer_ffns(config: HfConfig, side: str, count: int) -> list[str]:
    """Return `dense` or `sparse` for each layer of a side."""
    some = config.data.get(f"num_sparse_{side}_layers", 3)
    every = count // some if some else count
    every = config.optional(f"{side}_sparse_step") or every
    # without sparse layers their code counts on a step as long as the side, and has one at most
    chosen = [every == 1 or i % every == 1 for i in range(count)]
    return ["sparse" if sparse else "dense" for sparse in chosen]


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a Switch Transformer."""
    dense = [f"{side}.{BLOCK}.ffn" for side in SIDES]
    weight_map = without(t5.weights(MEMBER, config), *dense)
    for side, number in zip(SIDES, (1, 2), strict=True):
        ours, theirs = f"{side}.stack.blocks.{{i}}.ffn", f"{side}.block.{{i}}.layer.{number}.mlp"
        experts = f"{theirs}.experts.expert_{{e}}.{{wi,wo}}"
        weight_map += [
            *rows(f"{ours}.{{up,down}}", f"{theirs}.{{wi,wo}}"),
            Row(f"{ours}.router.gate", f"{theirs}.router.classifier"),
            *rows(f"{ours}.experts.{{up,down}}", experts, Stack(), config.get("num_experts")),
        ]
    return weight_map


def step(side: str) -> PathOrFn:
    """Return a reader of the interval of layers with experts on one side."""

    def read(view: FlatModel) -> int:
        kinds = [layer["ffn"]["kind"] for layer in view.table[side]["layers"]]
        sparse = [i for i, kind in enumerate(kinds) if kind == "moe"]
        if len(sparse) == len(kinds):
            return 1
        return sparse[1] - sparse[0] if len(sparse) > 1 else len(kinds)

    return read


def experts(view: FlatModel) -> Table:
    """Return the keys of the experts, as the decoder has them."""
    layers = [layer for side in SIDES for layer in view.table[side]["layers"]]
    moe = next((layer["ffn"] for layer in layers if layer["ffn"]["kind"] == "moe"), None)
    if moe is None:
        return {"num_sparse_encoder_layers": 0, "num_sparse_decoder_layers": 0}
    return {
        "num_experts": moe["n_experts"],
        "expert_capacity": moe["capacity"],
        "router_bias": moe["router"]["bias"],
        "router_aux_loss_coef": moe["router"]["balance_loss"],
        "router_z_loss_coef": moe["router"]["z_loss"],
        "d_ff": moe["expert"]["hidden_dim"],
        "dense_act_fn": their_activation(moe["expert"]["activation"]),
    }


SHARED_KEYS = {
    key: path for key, path in t5.KEYS.items() if key not in ("feed_forward_proj", "d_ff")
}

SWITCH = Family(
    model_types=("switch_transformers",),
    architecture="SwitchTransformersForConditionalGeneration",
    model=model,
    weights=weights,
    config=config_writer(
        {**SHARED_KEYS, **{f"{side}_sparse_step": step(side) for side in SIDES}},
        experts,
    ),
    defaults=t5.DEFAULTS | {"feed_forward_proj": "relu"},
    dropped=t5.T5.dropped,
    tied=t5.T5.tied,
)
