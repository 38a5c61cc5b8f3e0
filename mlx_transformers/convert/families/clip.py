"""The towers of CLIP: a causal text tower read at its end token, and a vision transformer with a
norm before its blocks. Defaults are those of `CLIPTextConfig` and `CLIPVisionConfig`."""

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import FlatModel, PathOrFn, activation, config_writer
from ..pictures import KEYS as VISION_KEYS
from ..pictures import block, mlp, norm, patch_rows, task, vision_table
from ..rows import BLOCK, Row, rows

TASKS = ("Model", "ModelWithProjection")
SCALING: Table = {
    "mean": [0.48145466, 0.4578275, 0.40821073],
    "std": [0.26862954, 0.26130258, 0.27577711],
}
"""Mean and deviation of red, green and blue in CLIP's training (`CLIPImageProcessor`)."""
OLD_END = 2
"""The end token of old configs, which were wrong: the model reads the largest id instead."""


def text_model(config: HfConfig) -> Table:
    """Return the `[model]` table of a CLIPTextConfig."""
    config.ignore("initializer_factor", "tie_word_embeddings", "num_labels")
    end = config.get("eos_token_id")
    end = end[0] if isinstance(end, list) else end
    return {
        "kind": "encoder",
        "causal": True,
        "end_token": "largest" if end == OLD_END else end,
        "dim": config.get("hidden_size"),
        "n_layers": config.get("num_hidden_layers"),
        "max_seq_len": config.get("max_position_embeddings"),
        "vocab_size": config.get("vocab_size"),
        "embed": {"kind": "token"},
        "position": {"kind": "learned"},
        "block": _block(config),
        "norm": norm(config),
        "pool": {"kind": "sentence", "reads": "end", "normalize": False, **_projection(config)},
        "init": {"kind": "normal", "std": config.get("initializer_range")},
    }


def vision_model(config: HfConfig) -> Table:
    """Return the `[model]` table of a CLIPVisionConfig."""
    config.ignore("initializer_factor", "tie_word_embeddings", "num_labels")
    around = norm(config)
    pool: Table = {"kind": "sentence", "reads": "first", "norm": around, "normalize": False}
    return vision_table(config, prefix=1, bias=False, norm=around, scaling=SCALING) | {
        "dim": config.get("hidden_size"),
        "n_layers": config.get("num_hidden_layers"),
        "block": _block(config),
        "norm": {"kind": "none"},
        "pool": pool | _projection(config),
        "init": {"kind": "normal", "std": config.get("initializer_range")},
    }


def _block(config: HfConfig) -> Table:
    ffn = mlp(config, config.get("intermediate_size"))
    return block(config, ffn, dropout="attention_dropout")


def _projection(config: HfConfig) -> Table:
    """Return the keys of the last linear layer, which one class of the two has."""
    if task(config, *TASKS) == "Model":
        config.ignore("projection_dim")
        return {}
    return {"activation": "identity", "width": config.get("projection_dim"), "map_bias": False}


def blocks(theirs: str) -> list[Row]:
    """Return the rows of the blocks, where `theirs` is the prefix of layer i."""
    return [
        *rows(f"{BLOCK}.mixer.{{q,k,v,o}}", f"{theirs}.self_attn.{{q,k,v,out}}_proj"),
        *rows(f"{BLOCK}.ffn.{{up,down}}", f"{theirs}.mlp.fc{{1,2}}"),
        *rows(f"{BLOCK}.{{mixer,ffn}}_residual.pre", f"{theirs}.layer_norm{{1,2}}"),
    ]


def text_rows(projection: str) -> list[Row]:
    """Return the rows of a text tower, where `projection` is the name of its last linear layer."""
    return [
        Row("embed.table", "text_model.embeddings.token_embedding"),
        Row("position.table", "text_model.embeddings.position_embedding"),
        *blocks("text_model.encoder.layers.{i}"),
        Row("norm", "text_model.final_layer_norm"),
        Row("pool.map", projection),
    ]


def text_weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a text tower."""
    return text_rows("text_projection")


def vision_weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a vision tower."""
    return [
        Row("embed.class_token", "vision_model.embeddings.class_embedding"),
        *patch_rows(config, "vision_model.embeddings.patch_embedding"),
        Row("position.table", "vision_model.embeddings.position_embedding"),
        Row("embed.norm", "vision_model.pre_layrnorm"),
        *blocks("vision_model.encoder.layers.{i}"),
        Row("pool.norm", "vision_model.post_layernorm"),
        Row("pool.map", "visual_projection"),
    ]


def placed(title: str, view: FlatModel) -> Table:
    """Return the class, and the width of its projection."""
    projected = view.has("pool.activation")
    keys: Table = {"architectures": [title + TASKS[projected]]}
    return keys | ({"projection_dim": view.get("pool.width")} if projected else {})


def end_token(view: FlatModel) -> int:
    """Return the end token."""
    end = view.get("end_token")
    return OLD_END if end == "largest" else end


SHARED: dict[str, PathOrFn] = {
    "intermediate_size": "block.ffn.hidden_dim",
    "attention_dropout": "block.mixer.dropout",
    "initializer_range": "init.std",
}
TEXT_KEYS: dict[str, PathOrFn] = {
    "vocab_size": "vocab_size",
    "hidden_size": "dim",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "block.mixer.n_heads",
    "hidden_act": activation("block.ffn.activation"),
    "layer_norm_eps": "block.norm.eps",
    "max_position_embeddings": "max_seq_len",
}

CLIP_TEXT = Family(
    model_types=("clip_text_model",),
    architecture="CLIPTextModel",
    model=text_model,
    weights=text_weights,
    config=config_writer(
        {**TEXT_KEYS, **SHARED, "eos_token_id": end_token}, lambda view: placed("CLIPText", view)
    ),
    defaults={"eos_token_id": 49407},
    renames=((r"^(?!text_model\.|text_projection)", "text_model."),),
)
CLIP_VISION = Family(
    model_types=("clip_vision_model",),
    architecture="CLIPVisionModel",
    model=vision_model,
    weights=vision_weights,
    config=config_writer({**VISION_KEYS, **SHARED}, lambda view: placed("CLIPVision", view)),
    renames=((r"^(?!vision_model\.|visual_projection)", "vision_model."),),
)
