"""LLaVA: a vision tower, a projector, and a language model. Defaults are those of `LlavaConfig`."""

from dataclasses import dataclass

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import FlatModel, activation, config_writer
from ..rows import Row, rows, under
from .clip import CLIP_VISION
from .llama import LLAMA
from .mistral import MISTRAL
from .qwen2 import QWEN2
from .siglip import SIGLIP_VISION

TOWERS = {family.name: family for family in (CLIP_VISION, SIGLIP_VISION)}
"""Vision towers by their `model_type`."""
LANGUAGES = {family.name: family for family in (LLAMA, MISTRAL, QWEN2)}
"""Language models by their `model_type`."""
CLIP_L: Table = {
    "model_type": "clip_vision_model",
    "intermediate_size": 4096,
    "hidden_size": 1024,
    "patch_size": 14,
    "image_size": 336,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "vocab_size": 32000,
    "projection_dim": 768,
}
"""The tower of a config that names none."""


@dataclass(frozen=True)
class Part:
    """The vision tower or the language model: its family, config and `[model]` table."""

    family: Family
    config: HfConfig
    table: Table


def part(
    config: HfConfig, key: str, families: dict[str, Family], usual: Table, **more: object
) -> Part:
    """Return the part whose config is under `key`; `usual` is the config of a file without one,
    and `more` are keys that go before those of the part.

    Raises:
        ConvertError: its family isn't built.
    """
    data = config.optional(key) or usual
    kind = data.get("model_type", usual["model_type"])
    if kind not in families:
        raise config.refuse(f"{key}.model_type", kind, f"of these are: {', '.join(families)}")
    family = families[kind]
    inner = config.watched(key, {**data, "model_type": kind, **more}, kind)
    inner.ignore("architectures")
    return Part(family, inner, family.table(inner))


def tower_of(config: HfConfig) -> Part:
    """Return the vision tower."""
    tower = part(config, "vision_config", TOWERS, CLIP_L)
    tower.config.ignore("vocab_size")
    return tower


def language_of(config: HfConfig) -> Part:
    """Return the language model, whose embeddings are tied if the whole model's are."""
    tied = {"tie_word_embeddings": True} if config.data.get("tie_word_embeddings") else {}
    return part(config, "text_config", LANGUAGES, {"model_type": "llama"}, **tied)


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a LlavaConfig."""
    config.ignore("image_seq_length", "tie_word_embeddings", "ignore_index", "vocab_size")
    vision, language = tower_of(config).table, language_of(config).table
    vision["pool"] = None
    layers = config.get("vision_feature_layer")
    strategy = config.get("vision_feature_select_strategy")
    if strategy not in ("default", "full"):
        raise config.refuse("vision_feature_select_strategy", strategy, "'default' and 'full' are")
    return {
        "kind": "vlm",
        "vocab_size": language["vocab_size"],
        "vision": vision,
        "language": language,
        "image_token": config.get("image_token_index"),
        "feature_layers": layers if isinstance(layers, list) else [layers],
        "drop_class": strategy == "default",
        "projector": "mlp",
        "activation": config.activation("projector_hidden_act"),
        "bias": config.get("multimodal_projector_bias"),
    }


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map."""
    tower, language = tower_of(config), language_of(config)
    vision_rows = [
        row for row in tower.family.weights(tower.config) if "pool." not in str(row.ours)
    ]
    return [
        *under(vision_rows, "vision", "vision_tower"),
        *under(language.family.weights(language.config), "language", "language_model"),
        *rows("{project,project_out}", "multi_modal_projector.{linear_1,linear_2}"),
    ]


def written(view: FlatModel) -> Table:
    """Return the tables of tower and language model, and which of the tower's layers are read."""
    vision, language = view.table["vision"], view.table["language"]
    tower = CLIP_VISION if vision["embed"]["class_token"] else SIGLIP_VISION
    layers = view.get("feature_layers")
    return {
        "vision_config": {"model_type": tower.name, **tower.config({**vision, "pool": POOLED})},
        "text_config": {"model_type": LLAMA.name, **LLAMA.config(language)},
        "vision_feature_layer": layers[0] if len(layers) == 1 else layers,
        "vision_feature_select_strategy": "default" if view.get("drop_class") else "full",
    }


POOLED: Table = {"kind": "sentence"}

LLAVA = Family(
    model_types=("llava",),
    architecture="LlavaForConditionalGeneration",
    model=model,
    weights=weights,
    config=config_writer(
        {
            "image_token_index": "image_token",
            "projector_hidden_act": activation("activation"),
            "multimodal_projector_bias": "bias",
        },
        written,
    ),
    renames=(
        (r"^model\.(vision_tower|multi_modal_projector)\.", r"\1."),
        (r"^model\.language_model\.", "language_model.model."),
        (r"^lm_head\.", "language_model.lm_head."),
        (r"^vision_tower\.(?!vision_model\.)", "vision_tower.vision_model."),
    ),
    spare=(r"^vision_tower\..*\.(post_layernorm|head)\.",),
)
