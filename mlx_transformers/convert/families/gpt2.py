"""GPT-2: learned positions, layer norms, packed attention stored `[in, out]`.

Defaults are those of `GPT2Config`.
"""

from ..config import HfConfig
from ..family import Family, Table, prefixed
from ..flat_model import FlatModel, PathOrFn, activation, config_writer
from ..rows import AS_IT_IS, BLOCK, Row, rows
from ..transforms import Chain, Split, Transpose

HF_BLOCK = "transformer.h.{i}"
MLX = "mlx."
"""Begins the names of a folder that mlx-lm wrote, whose matrices are `[out, in]`."""


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a GPT2Config."""
    config.ignore("n_ctx", "reorder_and_upcast_attn", "classifier_dropout")
    config.ignore("summary_type", "summary_use_proj", "summary_activation")
    config.ignore("summary_proj_to_labels", "summary_first_dropout")
    dim = config.get("n_embd")
    norm = {"kind": "layer_norm", "eps": config.get("layer_norm_epsilon")}
    mixer = {
        "kind": "attention",
        "n_heads": config.get("n_head"),
        "bias": True,
        "out_bias": True,
        "dropout": float(config.get("attn_pdrop")),
    }
    if not config.get("scale_attn_weights"):
        mixer["scale"] = 1.0
    ffn = {
        "kind": "mlp",
        "hidden_dim": config.get("n_inner") or 4 * dim,
        "activation": config.activation("activation_function"),
        "bias": True,
    }
    table = {
        "kind": "decoder",
        "dim": dim,
        "n_layers": config.get("n_layer"),
        "max_seq_len": config.get("n_positions"),
        "vocab_size": config.get("vocab_size"),
        "embed": {"kind": "token", "dropout": float(config.get("embd_pdrop"))},
        "position": {"kind": "learned"},
        "block": {
            "placement": "pre",
            "dropout": float(config.get("resid_pdrop")),
            "norm": norm,
            "mixer": mixer,
            "ffn": ffn,
        },
        "norm": norm,
        "head": {"kind": "lm", "tied": config.get("tie_word_embeddings")},
        "init": {
            "kind": "normal",
            "std": config.get("initializer_range"),
            "depth_scaled": True,
        },
    }
    by_layer = config.get("scale_attn_by_inverse_layer_idx")
    return scaled_by_layer(table) if by_layer else table


def scaled_by_layer(table: Table) -> Table:
    """Return a table whose scores in layer i are divided by i + 1: a block for each layer."""
    block, names = table["block"], [f"layer_{i}" for i in range(table["n_layers"])]
    mixer = block["mixer"]
    scale = mixer.get("scale", (table["dim"] // mixer["n_heads"]) ** -0.5)
    blocks = {
        name: block | {"mixer": mixer | {"scale": scale / (i + 1)}} for i, name in enumerate(names)
    }
    return table | {"blocks": blocks, "pattern": names}


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a GPT-2."""
    dim = config.get("n_embd")
    of_mlx = any(name.startswith(MLX) for name in config.tensors)
    root, turned = (MLX, AS_IT_IS) if of_mlx else ("transformer.", Transpose())
    block = f"{root}h.{{i}}"
    packed = Chain(turned, Split((dim, dim, dim)))
    return [
        Row("embed.table", f"{root}wte"),
        Row("position.table", f"{root}wpe"),
        Row("norm", f"{root}ln_f"),
        Row("head", "lm_head"),
        *rows(f"{BLOCK}.{{mixer,ffn}}_residual.pre", f"{block}.{{ln_1,ln_2}}"),
        Row(tuple(f"{BLOCK}.mixer.{x}" for x in "qkv"), f"{block}.attn.c_attn", packed),
        Row(f"{BLOCK}.mixer.o", f"{block}.attn.c_proj", turned),
        *rows(f"{BLOCK}.ffn.{{up,down}}", f"{block}.mlp.{{c_fc,c_proj}}", turned),
    ]


KEYS: dict[str, PathOrFn] = {
    "vocab_size": "vocab_size",
    "n_positions": "max_seq_len",
    "n_embd": "dim",
    "n_layer": "n_layers",
    "n_head": "block.mixer.n_heads",
    "n_inner": "block.ffn.hidden_dim",
    "activation_function": activation("block.ffn.activation"),
    "layer_norm_epsilon": "block.norm.eps",
    "attn_pdrop": "block.mixer.dropout",
    "embd_pdrop": "embed.dropout",
    "resid_pdrop": "block.dropout",
    "initializer_range": "init.std",
    "tie_word_embeddings": "head.tied",
}
"""Recipe paths of the keys that GPT-J and others share."""


def scaled(view: FlatModel) -> Table:
    """Return how scores are divided: by the root of the width, by the layer's number."""
    first = view.layers[0]["mixer"]
    by_layer = len({layer["mixer"]["scale"] for layer in view.layers}) > 1
    return {
        "scale_attn_weights": first["scale"] != 1.0 or first["head_dim"] == 1,
        "scale_attn_by_inverse_layer_idx": by_layer,
    }


GPT2 = Family(
    model_types=("gpt2",),
    architecture="GPT2LMHeadModel",
    model=model,
    weights=weights,
    config=config_writer(KEYS, scaled),
    renames=((r"^model\.", MLX), prefixed("transformer.", "lm_head.", MLX)),
    dropped=(r"\.attn\.(masked_)?bias$",),
    tied=(("lm_head.weight", "transformer.wte.weight"),),
)
