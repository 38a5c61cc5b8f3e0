"""The language model of a published model that also sees, without its vision tower.

Many published language models come with a tower (Gemma 3, Mistral Small 3.1, Qwen 3.5, SmolVLM). A
text goes through their language model alone, which is a model of a family of its own.
"""

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from ..core.errors import ConvertError
from .config import STORAGE, HfConfig
from .rope import text_positions

T = TypeVar("T")

LANGUAGE = {
    "gemma3": "gemma3_text",
    "idefics3": "llama",
    "internvl": "qwen2",
    "lfm2_vl": "lfm2",
    "llama4": "llama4_text",
    "llava": "llama",
    "llava_next": "llama",
    "mistral3": "mistral",
    "qwen2_5_vl": "qwen2_5_vl_text",
    "qwen2_vl": "qwen2_vl_text",
    "qwen3_5": "qwen3_5_text",
    "qwen3_5_moe": "qwen3_5_moe_text",
    "qwen3_vl": "qwen3_vl_text",
    "smolvlm": "llama",
}
"""The `model_type` of the language model where no `text_config` names one, by that of the whole."""

ALIASES = {"qwen2_vl_text": "qwen2", "qwen2_5_vl_text": "qwen2", "qwen3_vl_text": "qwen3"}
"""Families whose config class has another name inside a model that sees."""

DEFAULTS: dict[str, dict[str, Any]] = {
    "qwen2_vl_text": {"rms_norm_eps": 1e-5, "rope_theta": 1e6},
    "qwen2_5_vl_text": {"rms_norm_eps": 1e-5, "rope_theta": 1e6},
    "qwen3_vl_text": {"rope_theta": 5e5},
}
"""Defaults of those config classes that differ from the family's own and that no shape tells."""

RENAMES = (
    (r"^(model\.)?language_model\.lm_head\.", "lm_head."),
    (r"^language_model\.model\.", "model."),
    (r"^model\.(language_model|text_model)\.", "model."),
)
"""Beginnings of names in the language model, and what its own family has there."""
SAME = re.compile(r"lm_head\.|model\.(embed_tokens|layers|norm)\.")
"""Beginnings of names that are those of its own family already."""

OUTER = (
    *("vision_config", "image_token_id", "video_token_id"),
    *("vision_start_token_id", "vision_end_token_id", "vision_token_id"),
)
"""Keys that concern pictures in a config without a `text_config`, as of Qwen2-VL."""


def text_part(
    config: HfConfig, tensors: Mapping[str, T]
) -> tuple[HfConfig, dict[str, T], list[str]]:
    """Return config and tensors of the language model, and the names of the tensors left out.

    Args:
        config: the config of the whole model.
        tensors: all of its tensors, by published name.

    Raises:
        ConvertError: the config isn't one of a model with a tower, its `text_config` is no table,
            or no tensor belongs to a language model.
    """
    kind = config.model_type
    if kind not in LANGUAGE:
        raise ConvertError(
            f"{config.where}: --text-only takes the language model out of a model that also sees, "
            f"and '{kind}' is none of those that are known ({', '.join(LANGUAGE)}). Leave it out."
        )
    text = config.data.get("text_config")
    if not isinstance(text, dict | None):
        raise ConvertError(
            f"{config.where}: text_config = {text!r} has to be a table, the config of the language "
            "model. Download the file again, or take it out if all keys are outside."
        )
    found = {name: text_name(name) for name in tensors}
    if not any(found.values()):
        raise ConvertError(f"{config.where}: none of the tensors is one of a language model.")
    own = {new: tensors[name] for name, new in found.items() if new}
    data = _flat(config.data) if text is None else dict(text)
    inner = str(data.get("model_type") or kind)
    inner = LANGUAGE[kind] if inner == kind else inner
    data = DEFAULTS.get(inner, {}) | data | {"model_type": ALIASES.get(inner, inner)}
    # whether the head is tied is said inside or outside, and not always truly: the file decides
    data["tie_word_embeddings"] = not any(name.startswith("lm_head.") for name in own)
    data.pop("architectures", None)
    for key in STORAGE:
        if isinstance(table := config.data.get(key), dict):
            data[key] = {text_name(f"{name}.").rstrip(".") or name: v for name, v in table.items()}
    left = [name for name, new in found.items() if not new]
    part = HfConfig(data, f"{config.where}, text_config")
    text_positions(part)
    return part, own, left


def text_name(name: str) -> str:
    """Return the name of a tensor in the language model's own family; empty if it is no part of
    it."""
    for beginning, new in RENAMES:
        renamed, times = re.subn(beginning, new, name)
        if times:
            return renamed
    return name if SAME.match(name) else ""


def _flat(data: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key not in OUTER}
