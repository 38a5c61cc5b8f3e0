"""CLIP and SigLIP whole: a tower of texts, a tower of pictures, and the scale of their cosines.
Defaults are those of `CLIPConfig` and `SiglipConfig`."""

import math
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import FlatModel, config_writer
from ..rows import AS_IT_IS, Row, under
from ..transforms import Reshape
from .clip import CLIP_TEXT, CLIP_VISION
from .siglip import SIGLIP_TEXT, SIGLIP_VISION


@dataclass(frozen=True)
class Pair:
    """The differences of CLIP and SigLIP.

    Attributes:
        text, vision: the families of the towers.
        title: prefix of the class names of the towers.
        scale: logarithm of the scale at the start; None where the config says it.
        bias: the bias of the logits at the start; None without one.
        scalar: shape of a single number in the files.
    """

    text: Family
    vision: Family
    title: str
    scale: float | None = None
    bias: float | None = None
    scalar: tuple[int, ...] = field(default=())


CLIP_PAIR = Pair(CLIP_TEXT, CLIP_VISION, "CLIP")
SIGLIP_PAIR = Pair(SIGLIP_TEXT, SIGLIP_VISION, "Siglip", math.log(10.0), -10.0, (1,))


def side(pair: Pair, config: HfConfig, key: str) -> Table:
    """Return the config of a tower. In old files `KEY_dict` goes before `KEY`."""
    family = pair.text if key == "text_config" else pair.vision
    data = {**(config.optional(key) or {}), **(config.optional(f"{key}_dict") or {})}
    data["model_type"] = family.name
    if pair.scale is None:  # the towers of CLIP are projected to one width
        kind = "Text" if key == "text_config" else "Vision"
        data["architectures"] = [f"{pair.title}{kind}ModelWithProjection"]
        data["projection_dim"] = config.get("projection_dim")
    else:
        data["architectures"] = []
    return data


def watched(pair: Pair, config: HfConfig, key: str) -> HfConfig:
    """Return the config of a tower, whose keys are checked with those of the whole."""
    data = side(pair, config, key)
    inner = config.watched(key, data, data["model_type"])
    inner.ignore("architectures", "projection_dim")
    return inner


def model(pair: Pair, config: HfConfig) -> Table:
    """Return the `[model]` table of a CLIPConfig or SiglipConfig."""
    config.ignore("initializer_factor", "tie_word_embeddings")
    text = pair.text.table(watched(pair, config, "text_config"))
    vision_config = watched(pair, config, "vision_config")
    vision = pair.vision.table(vision_config)
    if "pool" not in vision:
        raise vision_config.refuse("vision_use_head", False, "true is")
    scale = config.get("logit_scale_init_value") if pair.scale is None else pair.scale
    return {
        "kind": "clip",
        "vocab_size": text.pop("vocab_size"),
        "vision": vision,
        "text": text,
        "log_scale": float(scale),
        "max_scale": None,
        "logit_bias": pair.bias,
    }


def weights(pair: Pair, config: HfConfig) -> list[Row]:
    """Return the weight map."""
    number = AS_IT_IS if not pair.scalar else Reshape(pair.scalar, ())
    text, vision = (HfConfig(side(pair, config, f"{name}_config")) for name in ("text", "vision"))
    return [
        *under(pair.text.weights(text), "text", ""),
        *under(pair.vision.weights(vision), "vision", ""),
        Row("log_scale", "logit_scale", number),
        *([] if pair.bias is None else [Row("logit_bias", "logit_bias", number)]),
    ]


def written(pair: Pair, view: FlatModel) -> Table:
    """Return the tables of both towers, and what is said of their comparison."""
    if (view.get("logit_bias") is None) != (pair.bias is None):
        raise ValueError("CLIP adds no bias to its logits, and SigLIP does.")
    text: dict[str, Any] = {**view.table["text"], "vocab_size": view.get("vocab_size")}
    tables = {
        "text_config": {"model_type": pair.text.name, **pair.text.config(text)},
        "vision_config": {
            "model_type": pair.vision.name,
            **pair.vision.config(view.table["vision"]),
        },
    }
    for table in tables.values():
        table.pop("architectures", None)
    if pair.scale is not None:
        return tables
    width = view.get("text.pool.width") or view.get("text.dim")
    return tables | {"projection_dim": width, "logit_scale_init_value": view.get("log_scale")}


def _family(model_type: str, pair: Pair) -> Family:
    return Family(
        model_types=(model_type,),
        architecture=f"{pair.title}Model",
        model=partial(model, pair),
        weights=partial(weights, pair),
        config=config_writer({}, partial(written, pair)),
    )


CLIP = _family("clip", CLIP_PAIR)
SIGLIP = _family("siglip", SIGLIP_PAIR)
