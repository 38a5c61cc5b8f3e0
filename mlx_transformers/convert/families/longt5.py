"""LongT5: T5 whose encoder reads a window, or a window and summaries of blocks.

Guo et al. 2021. Defaults are those of `LongT5Config`.
"""

from dataclasses import replace
from typing import Any

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import FlatModel
from ..rows import Row
from . import t5

MEMBER = t5.Member()
NAMES = {"local": "LocalSelfAttention", "transient-global": "TransientGlobalSelfAttention"}
"""The encoder's attention by `encoder_attention_type`."""


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a LongT5Config."""
    table = t5.model(MEMBER, config)
    side = table if t5.reads_only(config) else table["encoder"]
    mixer = side["block"]["mixer"]
    mixer["window"] = config.get("local_radius") + 1
    if attention_type(config) == "transient-global":
        side["position"]["summaries"] = True
        mixer |= {
            "kind": "transient_global",
            "block": config.get("global_block_size"),
            "norm": side["block"]["norm"],
        }
    else:
        config.ignore("global_block_size")
    return table


def attention_type(config: HfConfig) -> str:
    """Return the type of the encoder's attention.

    Raises:
        ConvertError: it isn't one of the two that are built.
    """
    kind = str(config.get("encoder_attention_type"))
    if kind not in NAMES:
        raise config.refuse("encoder_attention_type", kind)
    return kind


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a LongT5."""
    name = NAMES[attention_type(config)]
    weight_map = [_of_encoder(row, name) for row in t5.weights(MEMBER, config)]
    if name == NAMES["local"]:
        return weight_map
    prefix = "" if t5.reads_only(config) else "encoder."
    theirs = f"layer.0.{name}"
    return [
        *weight_map,
        Row(
            f"{prefix}stack.blocks.{{i}}.mixer.norm",
            f"encoder.block.{{i}}.{theirs}.global_input_layer_norm",
        ),
        Row(
            f"{prefix}position.summary_table",
            f"encoder.block.0.{theirs}.global_relative_attention_bias",
        ),
    ]


def _of_encoder(row: Row, name: str) -> Row:
    theirs = str(row.theirs)
    if not theirs.startswith("encoder."):
        return row
    return replace(row, theirs=theirs.replace("SelfAttention", name))


def sparse_keys(view: FlatModel) -> Table:
    """Return the keys of the encoder's attention."""
    mixer: dict[str, Any] = view.get("encoder")["layers"][0]["mixer"]
    keys: Table = {"local_radius": mixer["window"] - 1, "encoder_attention_type": "local"}
    if mixer["kind"] == "transient_global":
        keys |= {
            "encoder_attention_type": "transient-global",
            "global_block_size": mixer["block"],
        }
    return keys


LONGT5 = Family(
    model_types=("longt5",),
    architecture="LongT5ForConditionalGeneration",
    model=model,
    weights=weights,
    config=t5.writer("LongT5", sparse_keys),
    defaults=t5.DEFAULTS | {"n_positions": 4096},
    tied=tuple((f"{side}.embed_tokens.weight", "shared.weight") for side in ("encoder", "decoder")),
)
