"""Switch Transformer: T5 with experts in some layers, each token to one of them.

Defaults are those of `SwitchTransformersConfig`.
"""

from ..config import HfConfig, their_activation
from ..family import Family, Table
from ..pattern import patterned
from ..transforms import Stack
from ..view import Told, View, spelled
from ..weights import Row, rows
from . import t5

MEMBER = t5.Member(
    defaults={"d_model": 768, "num_layers": 12, "num_heads": 12, "num_decoder_layers": 12}
)
SIDES = ("encoder", "decoder")


def model(config: HfConfig) -> Table:
    """The `[model]` table of a SwitchTransformersConfig."""
    # noise and precision of training alone; what follows from other keys
    config.ignore("router_jitter_noise", "router_dtype", "add_router_probs", "router_type")
    config.ignore("router_ignore_padding_tokens", "feed_forward_proj", "num_sparse_encoder_layers")
    config.ignore("num_sparse_decoder_layers")
    config.expect("is_gated_act", False)
    table = t5.model(MEMBER, config)
    for side in SIDES:
        dense = table[side]["block"]["ffn"]
        dense["activation"] = config.activation("dense_act_fn", "relu")
        sparse = {"ffn": mixture(config, dense)}
        names = layer_ffns(config, side, table[side]["n_layers"])
        table[side] = patterned(table[side], names, {"dense": {}, "sparse": sparse})
    return table


def mixture(config: HfConfig, expert: Table) -> Table:
    """The experts of a config."""
    router = {
        "kind": "top_k",
        "top_k": 1,
        "normalize": False,
        "bias": config.get("router_bias", False),
        "balance_loss": config.get("router_aux_loss_coef", 0.001),
        "z_loss": config.get("router_z_loss_coef", 0.001),
    }
    return {
        "kind": "moe",
        "n_experts": config.get("num_experts", 8),
        "capacity": config.get("expert_capacity", 64),
        "router": router,
        "expert": expert,
    }


def layer_ffns(config: HfConfig, side: str, count: int) -> list[str]:
    """`dense` or `sparse` for each layer of a side: every so many, beginning with the second."""
    some = config.data.get(f"num_sparse_{side}_layers", 3)
    every = count // some if some else count
    every = config.get(f"{side}_sparse_step", None) or every
    # without sparse layers their code counts on a step as long as the side, and has one at most
    chosen = [every == 1 or i % every == 1 for i in range(count)]
    return ["sparse" if here else "dense" for here in chosen]


def weights(config: HfConfig) -> list[Row]:
    """The weight map of a Switch Transformer."""
    plain = [row for row in t5.weights(MEMBER, config) if ".ffn." not in row.ours]
    found = list(plain)
    for side, number in zip(SIDES, (1, 2), strict=True):
        ours, theirs = f"{side}.stack.blocks.{{i}}.ffn", f"{side}.block.{{i}}.layer.{number}.mlp"
        experts = f"{theirs}.experts.expert_{{e}}.{{wi,wo}}"
        found += [
            *rows(f"{ours}.{{up,down}}", f"{theirs}.{{wi,wo}}"),
            Row(f"{ours}.router.gate", f"{theirs}.router.classifier"),
            *rows(f"{ours}.experts.{{up,down}}", experts, Stack(), config.get("num_experts", 8)),
        ]
    return found


def step(side: str) -> Told:
    """Every how many layers of a side there are experts."""

    def said(view: View) -> int:
        kinds = [layer["ffn"]["kind"] for layer in view.table[side]["layers"]]
        sparse = [i for i, kind in enumerate(kinds) if kind == "moe"]
        if len(sparse) == len(kinds):
            return 1
        return sparse[1] - sparse[0] if len(sparse) > 1 else len(kinds)

    return said


def experts(view: View) -> Table:
    """The experts, as the decoder has them."""
    layers = [layer for side in SIDES for layer in view.table[side]["layers"]]
    found = next((layer["ffn"] for layer in layers if layer["ffn"]["kind"] == "moe"), None)
    if found is None:
        return {"num_sparse_encoder_layers": 0, "num_sparse_decoder_layers": 0}
    return {
        "num_experts": found["n_experts"],
        "expert_capacity": found["capacity"],
        "router_bias": found["router"]["bias"],
        "router_aux_loss_coef": found["router"]["balance_loss"],
        "router_z_loss_coef": found["router"]["z_loss"],
        "d_ff": found["expert"]["hidden_dim"],
        "dense_act_fn": their_activation(found["expert"]["activation"]),
    }


TOLD = {key: told for key, told in t5.KEYS.items() if key not in ("feed_forward_proj", "d_ff")}

SWITCH = Family(
    model_types=("switch_transformers",),
    architecture="SwitchTransformersForConditionalGeneration",
    model=model,
    weights=weights,
    config=spelled(
        {**TOLD, **{f"{side}_sparse_step": step(side) for side in SIDES}},
        experts,
    ),
    dropped=t5.T5.dropped,
    tied=t5.T5.tied,
)
