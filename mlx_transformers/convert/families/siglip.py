"""The towers of SigLIP: a text tower that is read at its last token, and a vision transformer that
is pooled by attention. Defaults are those of `SiglipTextConfig` and `SiglipVisionConfig`."""

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import FlatModel, PathOrFn, config_writer
from ..pictures import KEYS as VISION_KEYS
from ..pictures import block, mlp, norm, patch_rows, task, vision_table
from ..rows import Row, rows
from ..transforms import Reshape, Split
from .clip import TEXT_KEYS, blocks, text_rows

INIT: Table = {"kind": "fan_in"}


def text_model(config: HfConfig) -> Table:
    """Return the `[model]` table of a SiglipTextConfig."""
    config.ignore("tie_word_embeddings", "num_labels")
    task(config, "Model")
    width = config.optional("projection_size")
    pool: Table = {"kind": "sentence", "reads": "final", "normalize": False}
    pool |= {"activation": "identity"}
    if width not in (None, config.get("hidden_size")):
        pool["width"] = width
    return {
        "kind": "encoder",
        "dim": config.get("hidden_size"),
        "n_layers": config.get("num_hidden_layers"),
        "max_seq_len": config.get("max_position_embeddings"),
        "vocab_size": config.get("vocab_size"),
        "embed": {"kind": "token"},
        "position": {"kind": "learned"},
        "block": _block(config),
        "norm": norm(config),
        "pool": pool,
        "init": INIT,
    }


def vision_model(config: HfConfig) -> Table:
    """Return the `[model]` table of a SiglipVisionConfig."""
    config.ignore("tie_word_embeddings", "num_labels")
    task(config, "Model")
    table = vision_table(config, prefix=0) | {
        "dim": config.get("hidden_size"),
        "n_layers": config.get("num_hidden_layers"),
        "block": _block(config),
        "norm": norm(config),
        "init": INIT,
    }
    if not config.get("vision_use_head"):
        return table
    pool: Table = {
        "kind": "attention",
        "n_heads": config.get("num_attention_heads"),
        "hidden_dim": config.get("intermediate_size"),
        "activation": config.activation("hidden_act"),
        "norm": norm(config),
    }
    return table | {"pool": pool}


def _block(config: HfConfig) -> Table:
    ffn = mlp(config, config.get("intermediate_size"))
    return block(config, ffn, dropout="attention_dropout")


def text_weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a text tower."""
    return text_rows("text_model.head")


def vision_weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a vision tower."""
    dim, head = config.get("hidden_size"), "vision_model.head"
    packed = Split((dim, dim, dim))
    return [
        *patch_rows(config, "vision_model.embeddings.patch_embedding"),
        Row("position.table", "vision_model.embeddings.position_embedding"),
        *blocks("vision_model.encoder.layers.{i}"),
        Row("norm", "vision_model.post_layernorm"),
        Row("pool.query", f"{head}.probe", Reshape((1, 1, dim), (dim,))),
        *(
            Row(
                tuple(f"pool.{name}.{leaf}" for name in "qkv"),
                f"{head}.attention.in_proj_{leaf}",
                packed,
            )
            for leaf in ("weight", "bias")
        ),
        Row("pool.o", f"{head}.attention.out_proj"),
        Row("pool.norm", f"{head}.layernorm"),
        *rows("pool.{up,down}", f"{head}.mlp.fc{{1,2}}"),
    ]


def projected(view: FlatModel) -> Table:
    """Return the width of the text tower's head."""
    return {"projection_size": view.get("pool.width")} if view.has("pool.width") else {}


def has_head(view: FlatModel) -> Table:
    """Return whether the vision tower is pooled."""
    return {"vision_use_head": view.has("pool.kind")}


SHARED: dict[str, PathOrFn] = {
    "intermediate_size": "block.ffn.hidden_dim",
    "attention_dropout": "block.mixer.dropout",
}

SIGLIP_TEXT = Family(
    model_types=("siglip_text_model",),
    architecture="SiglipTextModel",
    model=text_model,
    weights=text_weights,
    config=config_writer({**TEXT_KEYS, **SHARED}, projected),
    renames=((r"^(?!text_model\.)", "text_model."),),
)
SIGLIP_VISION = Family(
    model_types=("siglip_vision_model",),
    architecture="SiglipVisionModel",
    model=vision_model,
    weights=vision_weights,
    config=config_writer({**VISION_KEYS, **SHARED}, has_head),
    renames=((r"^(?!vision_model\.)", "vision_model."),),
)
