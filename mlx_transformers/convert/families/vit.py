"""ViT and DeiT: norms in front, a class token, learned positions. Defaults are `ViTConfig`'s."""

from dataclasses import dataclass
from functools import partial

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import FlatModel, PathOrFn, config_writer
from ..pictures import (
    ATTENTION_RENAMES,
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

TASKS = ("Model", "ForImageClassification")


@dataclass(frozen=True)
class Member:
    """The differences of ViT and DeiT.

    Attributes:
        root: prefix of the tensors.
        title: prefix of the class names.
        prefix: tokens in front of the patches.
    """

    root: str
    title: str
    prefix: int


def model(member: Member, config: HfConfig) -> Table:
    """Return the `[model]` table of a ViTConfig or DeiTConfig."""
    config.ignore("encoder_stride", "num_labels", "tie_word_embeddings")
    rate = float(config.get("hidden_dropout_prob"))
    table = vision_table(config, prefix=member.prefix, dropout=rate)
    layer = block(
        config,
        mlp(config, config.get("intermediate_size")),
        dropout="attention_probs_dropout_prob",
        bias=config.get("qkv_bias"),
    )
    return table | {
        "dim": config.get("hidden_size"),
        "n_layers": config.get("num_hidden_layers"),
        "block": layer | {"dropout": rate},
        "norm": norm(config),
        "pool": pool(config),
        "init": {"kind": "normal", "std": config.get("initializer_range")},
    }


def pool(config: HfConfig) -> Table | None:
    """Return the pool of the saved class."""
    act, width = config.activation("pooler_act"), config.optional("pooler_output_size")
    if task(config, *TASKS) == "ForImageClassification":
        return {"kind": "classifier", "n_classes": n_labels(config), "activation": None}
    if config.tensors and not any(".pooler." in f".{name}" for name in config.tensors):
        return None
    pooled: Table = {"kind": "sentence", "reads": "first", "activation": act, "normalize": False}
    return pooled if width in (None, config.get("hidden_size")) else pooled | {"width": width}


def weights(member: Member, config: HfConfig) -> list[Row]:
    """Return the weight map."""
    root = member.root
    theirs = f"{root}encoder.layer.{{i}}"
    attention = f"{theirs}.attention.attention"
    return [
        *token_rows(
            config,
            ("embed.class_token", f"{root}embeddings.cls_token"),
            ("embed.distillation_token", f"{root}embeddings.distillation_token"),
        ),
        *patch_rows(config, f"{root}embeddings.patch_embeddings.projection"),
        grid_row(config, f"{root}embeddings.position_embeddings", member.prefix),
        *rows(f"{BLOCK}.mixer.{{q,k,v}}", f"{attention}.{{query,key,value}}"),
        Row(f"{BLOCK}.mixer.o", f"{theirs}.attention.output.dense"),
        *rows(f"{BLOCK}.ffn.{{up,down}}", f"{theirs}.{{intermediate,output}}.dense"),
        *rows(f"{BLOCK}.{{mixer,ffn}}_residual.pre", f"{theirs}.layernorm_{{before,after}}"),
        Row("norm", f"{root}layernorm"),
        Row("pool.map", f"{root}pooler.dense"),
        Row("pool.out", "classifier"),
    ]


def placed(member: Member, view: FlatModel) -> Table:
    """Return the class, its labels, and the pooler."""
    classes = view.get("pool.kind") == "classifier"
    keys: Table = {"architectures": [member.title + TASKS[classes]], **labels(view)}
    if view.has("pool.activation"):
        keys["pooler_act"] = view.get("pool.activation")
    if view.has("pool.width"):
        keys["pooler_output_size"] = view.get("pool.width")
    return keys


KEYS: dict[str, PathOrFn] = {
    **VISION_KEYS,
    "intermediate_size": "block.ffn.hidden_dim",
    "hidden_dropout_prob": "block.dropout",
    "attention_probs_dropout_prob": "block.mixer.dropout",
    "qkv_bias": "block.mixer.bias",
    "initializer_range": "init.std",
}


def _family(model_type: str, member: Member) -> Family:
    root = member.root
    return Family(
        model_types=(model_type,),
        architecture=f"{member.title}ForImageClassification",
        model=partial(model, member),
        weights=partial(weights, member),
        config=config_writer(KEYS, partial(placed, member)),
        renames=(
            (rf"^(?!{root}|classifier|cls_classifier|distillation_classifier)", root),
            (rf"^{root}layers\.", f"{root}encoder.layer."),
            *ATTENTION_RENAMES,
            (r"(layer\.\d+)\.mlp\.fc1", r"\1.intermediate.dense"),
            (r"(layer\.\d+)\.mlp\.fc2", r"\1.output.dense"),
        ),
        spare=(r"\.mask_token$", rf"^{root}pooler\."),
    )


VIT = _family("vit", Member("vit.", "ViT", 1))
DEIT = _family("deit", Member("deit.", "DeiT", 2))
