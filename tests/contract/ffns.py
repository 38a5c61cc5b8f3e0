"""Rows of the slot `ffn`."""

from typing import get_args

from mlx_transformers.layers.ffns.mlp import Activation

from .suite import EXPERTS, Change, Row, everything, itself, last

GLU = {"kind": "glu", "hidden_dim": 24, "activation": "silu"}
MLP = {"kind": "mlp", "hidden_dim": 24, "activation": "relu"}
XIELU = {"kind": "xielu", "hidden_dim": 24}
ROUTER = {"kind": "top_k", "top_k": 2, "normalize": True}
CLAMPED = {"kind": "clamped_glu", "hidden_dim": 24, "limit": 7.0, "slope": 1.702}
SIGMOID = ROUTER | {"kind": "sigmoid", "scale": 2.5, "n_groups": 2, "top_groups": 1}
MOE = {"kind": "moe", "n_experts": EXPERTS, "router": ROUTER, "expert": GLU}
CHANNEL = {"kind": "channel_mixing", "hidden_dim": 24}
GSHARD = {"kind": "gshard", "policy": "threshold", "threshold": 0.3, "normalize": True}
# as many slots as tokens, so that none is dropped
SLOTS = {"factor": 4.0, "eval_factor": 4.0}
EXPERT_CHOICE = {"kind": "expert_choice", "n_experts": EXPERTS, "expert": GLU}
MEMORY = {"kind": "product_keys", "n_heads": 2, "n_keys": 5, "top_k": 3, "key_dim": 4}
SOFT = {"kind": "soft_moe", "n_experts": EXPERTS, "slots": 2, "expert": MLP}


def ffn(name: str, config: dict, compiled: bool = False) -> Row:
    return Row("ffn", name, config, sees=itself, compiled=compiled)


def soft(name: str, config: dict, compiled: bool = False) -> Row:
    return Row("ffn", name, SOFT | config, sees=everything, whole=True, compiled=compiled)


ROWS = [
    *(
        ffn(f"mlp {name}", MLP | {"activation": name}, name == "relu")
        for name in get_args(Activation)
    ),
    *(
        ffn(f"glu {name}", GLU | {"activation": name}, name == "silu")
        for name in get_args(Activation)
    ),
    ffn("mlp biases dropout", MLP | {"bias": True, "dropout": 0.3}),
    ffn("glu biases dropout", GLU | {"bias": True, "dropout": 0.3}),
    ffn("clamped glu", CLAMPED | {"limit": 0.4}),
    ffn("clamped glu biases dropout", CLAMPED | {"bias": True, "dropout": 0.3}),
    ffn("xielu", XIELU),
    ffn("xielu biases dropout", XIELU | {"bias": True, "beta": 0.3, "dropout": 0.3}),
    ffn("moe of glu", MOE, compiled=True),
    ffn("moe of a sparse mixer", MOE | {"router": {"kind": "sparse_mixer", "reach": 0.5}}),
    ffn("moe of mlp", MOE | {"expert": MLP | {"bias": True}}),
    ffn("moe top 1", MOE | {"router": ROUTER | {"top_k": 1, "normalize": False}}),
    ffn("moe all experts", MOE | {"router": ROUTER | {"top_k": EXPERTS}}),
    ffn("moe losses", MOE | {"router": ROUTER | {"balance_loss": 0.1, "z_loss": 0.01}}),
    ffn("moe shared", MOE | {"shared": MLP}),
    ffn("moe shared and gated", MOE | {"shared": GLU | {"hidden_dim": 8}, "shared_gate": True}),
    ffn("moe of a sigmoid router", MOE | {"router": SIGMOID, "shared": MLP}),
    ffn("moe of clamped glu", MOE | {"expert": CLAMPED | {"bias": True}}),
    ffn("moe of weighed inputs", MOE | {"router": SIGMOID, "weighs": "inputs"}),
    ffn("moe of a latent", MOE | {"latent": 6, "shared": MLP}, compiled=True),
    ffn("moe dropout", MOE | {"expert": GLU | {"dropout": 0.3}}),
    Row("ffn", "channel mixing", CHANNEL, sees=last(2), both=last(2)),
    Row("ffn", "open", CHANNEL | {"receptance": False}, sees=last(2), both=last(2)),
    ffn("moe of slots", MOE | {"slots": SLOTS}, compiled=True),
    ffn("moe of gshard", MOE | {"router": GSHARD, "slots": SLOTS}),
    # with this factor each expert takes all tokens, so that none depends on others
    ffn("expert choice", EXPERT_CHOICE | {"factor": 3.9, "rounding": "up"}, compiled=True),
    ffn("product keys", MEMORY, compiled=True),
    soft("soft moe", {}, compiled=True),
    soft("soft moe of norms", {"norm": {"kind": "rms_norm"}, "expert": GLU, "reads_normed": True}),
]

CHANGES = {
    "channel_mixing": {"hidden_dim": 20, "receptance": False},
    "mlp": {"hidden_dim": 20, "activation": "gelu", "bias": True, "dropout": 0.5},
    "glu": {"hidden_dim": 20, "activation": "gelu", "bias": True, "dropout": 0.5},
    "clamped_glu": {
        "hidden_dim": 20,
        "limit": 0.2,
        "slope": 1.0,
        "bias": True,
        "dropout": 0.5,
    },
    "xielu": {"hidden_dim": 20, "beta": 0.2, "bias": True, "dropout": 0.5},
    "moe": {
        "n_experts": 3,
        "router": ROUTER | {"top_k": 3},
        "expert": MLP,
        "shared": GLU,
        "shared_gate": Change(True, row="moe shared"),
        "capacity": 1,
        "slots": SLOTS | {"factor": 0.5},
        "weighs": "inputs",
        "latent": 6,
    },
    "expert_choice": {"n_experts": 5, "factor": 1.0, "rounding": "down", "expert": MLP},
    "product_keys": {
        "n_heads": 1,
        "n_keys": 4,
        "top_k": 2,
        "key_dim": 6,
        "norm": {"kind": "rms_norm"},
    },
    "soft_moe": {
        "n_experts": 3,
        "slots": 1,
        "expert": GLU,
        "norm": {"kind": "layer_norm"},
        "reads_normed": Change(False, row="soft moe of norms"),
    },
}
