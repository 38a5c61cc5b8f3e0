"""DINOv2, with and without registers: LayerScale, a plain or gated network. Defaults are
`Dinov2Config`'s."""

from dataclasses import dataclass
from functools import partial

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import FlatModel, PathOrFn, config_writer
from ..pictures import (
    ATTENTION_RENAMES,
    IMAGENET,
    block,
    grid_row,
    labels,
    mlp,
    norm,
    patch_rows,
    task,
    token_rows,
    vision_table,
)
from ..pictures import KEYS as VISION_KEYS
from ..rows import BLOCK, Row, rows
from ..task_heads import n_labels
from ..transforms import Reshape, Split

TASKS = ("Model", "ForImageClassification")


@dataclass(frozen=True)
class Member:
    """DINOv2 without or with registers.

    Attributes:
        root: prefix of the tensors of a classifier.
        title: prefix of the class names.
        registers: whether the config counts registers.
    """

    root: str
    title: str
    registers: bool


def model(member: Member, config: HfConfig) -> Table:
    """Return the `[model]` table of a Dinov2Config or Dinov2WithRegistersConfig."""
    # A backbone's outputs, the token of masked training, and the rate of stochastic depth.
    config.ignore("out_features", "out_indices", "_out_features", "_out_indices", "stage_names")
    config.ignore("apply_layernorm", "reshape_hidden_states", "use_mask_token", "drop_path_rate")
    config.ignore("num_labels", "tie_word_embeddings")
    rate = float(config.get("hidden_dropout_prob"))
    registers = config.get("num_register_tokens") if member.registers else 0
    table = vision_table(config, prefix=1, registers=registers, dropout=rate, scaling=IMAGENET)
    table["position"]["antialias"] = member.registers
    layer = block(
        config,
        ffn(config),
        dropout="attention_probs_dropout_prob",
        bias=config.get("qkv_bias"),
    )
    pool: Table = {"kind": "sentence", "reads": "first", "normalize": False}
    if task(config, *TASKS) == "ForImageClassification":
        pool = {"kind": "classifier", "n_classes": n_labels(config), "activation": None}
        pool |= {"reads": "first_mean", "skip": 1 + registers if registers else 0}
    return table | {
        "dim": config.get("hidden_size"),
        "n_layers": config.get("num_hidden_layers"),
        "block": layer | {"dropout": rate, "layer_scale": float(config.get("layerscale_value"))},
        "norm": norm(config),
        "pool": pool,
        "init": {"kind": "normal", "std": config.get("initializer_range")},
    }


def ffn(config: HfConfig) -> Table:
    """Return the table of the network: a plain one, or SwiGLU with two thirds of its width, rounded
    up to a multiple of 8."""
    width = int(config.get("hidden_size") * config.get("mlp_ratio"))
    if not config.get("use_swiglu_ffn"):
        return mlp(config, width)
    config.ignore("hidden_act")
    return {"kind": "glu", "hidden_dim": _gated(width), "activation": "silu", "bias": True}


def _gated(width: int) -> int:
    return (int(width * 2 / 3) + 7) // 8 * 8


def weights(member: Member, config: HfConfig) -> list[Row]:
    """Return the weight map."""
    root, dim = member.root, config.get("hidden_size")
    theirs = f"{root}encoder.layer.{{i}}"
    weight_map = [
        *token_rows(config, ("embed.class_token", f"{root}embeddings.cls_token")),
        *patch_rows(config, f"{root}embeddings.patch_embeddings.projection"),
        grid_row(config, f"{root}embeddings.position_embeddings", 1),
        *rows(f"{BLOCK}.mixer.{{q,k,v}}", f"{theirs}.attention.attention.{{query,key,value}}"),
        Row(f"{BLOCK}.mixer.o", f"{theirs}.attention.output.dense"),
        *rows(f"{BLOCK}.{{mixer,ffn}}_residual.pre", f"{theirs}.norm{{1,2}}"),
        *rows(f"{BLOCK}.{{mixer,ffn}}_residual.gain", f"{theirs}.layer_scale{{1,2}}.lambda1"),
        Row("norm", f"{root}layernorm"),
        Row("pool.out", "classifier"),
    ]
    if member.registers:
        count = config.get("num_register_tokens")
        turned = Reshape((1, count, dim), (count, dim))
        weight_map.append(Row("embed.registers", f"{root}embeddings.register_tokens", turned))
    if not config.get("use_swiglu_ffn"):
        return [*weight_map, *rows(f"{BLOCK}.ffn.{{up,down}}", f"{theirs}.mlp.fc{{1,2}}")]
    hidden = _gated(int(dim * config.get("mlp_ratio")))
    packed = (f"{BLOCK}.ffn.gate", f"{BLOCK}.ffn.up")
    return [
        *weight_map,
        Row(packed, f"{theirs}.mlp.weights_in", Split((hidden, hidden))),
        Row(f"{BLOCK}.ffn.down", f"{theirs}.mlp.weights_out"),
    ]


def placed(member: Member, view: FlatModel) -> Table:
    """Return the class, its labels, and the network."""
    classes = view.get("pool.kind") == "classifier"
    config: Table = {"architectures": [member.title + TASKS[classes]], **labels(view)}
    dim, hidden = view.number("dim"), view.number("block.ffn.hidden_dim")
    gated = view.get("block.ffn.kind") == "glu"
    ratios = range(1, 65)
    fitting = [r for r in ratios if (_gated(int(dim * r)) if gated else dim * r) == hidden]
    config |= {"use_swiglu_ffn": gated, "mlp_ratio": fitting[0], "use_mask_token": False}
    if gated:
        config["hidden_act"] = "gelu"
    if member.registers:
        config["num_register_tokens"] = view.get("embed.registers")
    return config


KEYS: dict[str, PathOrFn] = {
    **VISION_KEYS,
    "hidden_dropout_prob": "block.dropout",
    "attention_probs_dropout_prob": "block.mixer.dropout",
    "qkv_bias": "block.mixer.bias",
    "layerscale_value": "block.layer_scale",
    "initializer_range": "init.std",
}


def _family(model_type: str, member: Member) -> Family:
    root = member.root
    return Family(
        model_types=(model_type,),
        architecture=f"{member.title}Model",
        model=partial(model, member),
        weights=partial(weights, member),
        config=config_writer(KEYS, partial(placed, member)),
        renames=(
            (rf"^(?!{root}|classifier)", root),
            (rf"^{root}layers\.", f"{root}encoder.layer."),
            *ATTENTION_RENAMES,
        ),
        spare=(r"\.mask_token$",),
    )


DINOV2 = _family("dinov2", Member("dinov2.", "Dinov2", False))
DINOV2_WITH_REGISTERS = _family(
    "dinov2_with_registers", Member("dinov2_with_registers.", "Dinov2WithRegisters", True)
)
