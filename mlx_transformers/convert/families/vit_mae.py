"""ViT as a masked autoencoder, with its decoder. Defaults are those of `ViTMAEConfig`."""

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import FlatModel, PathOrFn, config_writer
from ..pictures import (
    ATTENTION_RENAMES,
    IMAGENET,
    block,
    grid_row,
    image_size,
    mlp,
    norm,
    patch_rows,
    patch_size,
    task,
    token_rows,
    vision_table,
)
from ..pictures import KEYS as VISION_KEYS
from ..rows import BLOCK, Row, rows, under
from ..transforms import Reshape

TASK = "ForPreTraining"


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a ViTMAEConfig."""
    config.ignore("tie_word_embeddings", "num_labels", "encoder_stride")
    task(config, TASK)
    rate = float(config.get("hidden_dropout_prob"))
    layer = block(
        config,
        mlp(config, config.get("intermediate_size")),
        dropout="attention_probs_dropout_prob",
        bias=config.get("qkv_bias"),
    ) | {"dropout": rate}
    vision = vision_table(config, prefix=1, scaling=IMAGENET) | {
        "dim": config.get("hidden_size"),
        "n_layers": config.get("num_hidden_layers"),
        "block": layer,
        "norm": norm(config),
        "init": {"kind": "normal", "std": config.get("initializer_range")},
    }
    return {
        "kind": "mae",
        "vocab_size": vision["vocab_size"],
        "vision": vision,
        "decoder": decoder(config, layer, vision["position"]),
        "mask_ratio": config.get("mask_ratio"),
        "normalize": config.get("norm_pix_loss"),
    }


def decoder(config: HfConfig, layer: Table, position: Table) -> Table:
    """Return the table of the decoder, whose blocks are those of the encoder in other sizes."""
    hidden_dim = config.get("decoder_intermediate_size")
    mixer = layer["mixer"] | {"n_heads": config.get("decoder_num_attention_heads")}
    return {
        "dim": config.get("decoder_hidden_size"),
        "n_layers": config.get("decoder_num_hidden_layers"),
        "embed": {"kind": "token"},
        "position": position,
        "block": layer | {"mixer": mixer, "ffn": layer["ffn"] | {"hidden_dim": hidden_dim}},
        "norm": norm(config),
    }


def blocks(theirs: str) -> list[Row]:
    """Return the rows of the blocks, where `theirs` is the prefix of layer i."""
    return [
        *rows(f"{BLOCK}.mixer.{{q,k,v}}", f"{theirs}.attention.attention.{{query,key,value}}"),
        Row(f"{BLOCK}.mixer.o", f"{theirs}.attention.output.dense"),
        *rows(f"{BLOCK}.ffn.{{up,down}}", f"{theirs}.{{intermediate,output}}.dense"),
        *rows(f"{BLOCK}.{{mixer,ffn}}_residual.pre", f"{theirs}.layernorm_{{before,after}}"),
    ]


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map."""
    width, (height, across) = config.get("decoder_hidden_size"), image_size(config)
    count = 1 + (height // patch_size(config)) * (across // patch_size(config))
    vision = [
        *token_rows(config, ("embed.class_token", "embeddings.cls_token")),
        *patch_rows(config, "embeddings.patch_embeddings.projection"),
        grid_row(config, "embeddings.position_embeddings", 1),
        *blocks("encoder.layer.{i}"),
        Row("norm", "layernorm"),
    ]
    rebuilds = [
        Row("project", "decoder_embed"),
        Row("embed.table.weight", "mask_token", Reshape((1, 1, width), (1, width))),
        Row(
            "position.table.weight",
            "decoder_pos_embed",
            Reshape((1, count, width), (count, width)),
        ),
        *blocks("decoder_layers.{i}"),
        Row("norm", "decoder_norm"),
        Row("out", "decoder_pred"),
    ]
    return [*under(vision, "vision", "vit"), *under(rebuilds, "decoder", "decoder")]


def within_vision(path: PathOrFn) -> PathOrFn:
    """Return a path, or a function of a model, for the vision tower of a masked autoencoder."""
    if isinstance(path, str):
        return f"vision.{path}"
    return lambda view: path(FlatModel(view.table["vision"]))


KEYS: dict[str, PathOrFn] = {
    **{key: within_vision(path) for key, path in VISION_KEYS.items()},
    "intermediate_size": "vision.block.ffn.hidden_dim",
    "hidden_dropout_prob": "vision.block.dropout",
    "attention_probs_dropout_prob": "vision.block.mixer.dropout",
    "qkv_bias": "vision.block.mixer.bias",
    "initializer_range": "vision.init.std",
    "mask_ratio": "mask_ratio",
    "norm_pix_loss": "normalize",
    "decoder_hidden_size": "decoder.dim",
    "decoder_num_hidden_layers": "decoder.n_layers",
    "decoder_num_attention_heads": "decoder.block.mixer.n_heads",
    "decoder_intermediate_size": "decoder.block.ffn.hidden_dim",
}

VIT_MAE = Family(
    model_types=("vit_mae",),
    architecture="ViTMAEForPreTraining",
    model=model,
    weights=weights,
    config=config_writer(KEYS),
    renames=(
        (r"^vit\.layers\.", "vit.encoder.layer."),
        # transformers 5 writes the decoder's layers so
        (r"^decoder\.decoder_encoder\.layer\.", "decoder.decoder_layers."),
        *ATTENTION_RENAMES,
        (r"(layers?\.\d+)\.mlp\.fc1", r"\1.intermediate.dense"),
        (r"(layers?\.\d+)\.mlp\.fc2", r"\1.output.dense"),
    ),
)
