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
    "llava": "llama",
    "llava_next": "llama",
    "mistral3": "mistral",
    "qwen2_5_vl": "qwen2",
    "qwen2_vl": "qwen2",
    "qwen3_5": "qwen3_5_text",
    "qwen3_5_moe": "qwen3_5_moe_text",
    "qwen3_vl": "qwen3",
    "smolvlm": "llama",
}
"""The family of the language model of a config whose `text_config` names none, by `model_type`."""

ALIASES = {"qwen2_vl_text": "qwen2", "qwen2_5_vl_text": "qwen2", "qwen3_vl_text": "qwen3"}
"""Families whose config class has another name inside a model that sees."""

DEFAULTS: dict[str, dict[str, Any]] = {
    "qwen2_vl_text": {"rms_norm_eps": 1e-5, "rope_theta": 1e6},
    "qwen2_5_vl_text": {"rms_norm_eps": 1e-5, "rope_theta": 1e6},
    "qwen3_vl_text": {"rope_theta": 5e5},
}
"""Defaults of those config classes that differ from the family's own and that no shape tells."""

NAMES = (
    (re.compile(r"(model\.)?language_model\.lm_head\."), "lm_head."),
    (re.compile(r"language_model\.model\."), "model."),
    (re.compile(r"model\.(language_model|text_model)\."), "model."),
    (re.compile(r"lm_head\."), "lm_head."),
    (re.compile(r"model\.(?=(embed_tokens|layers|norm)\.)"), "model."),
)
"""Beginnings of names in the language model, and what its own family has there."""

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
        ConvertError: the config isn't one of a model with a tower, or no tensor belongs to a
            language model.
    """
    kind = config.model_type
    if kind not in LANGUAGE:
        raise ConvertError(
            f"{config.where}: --text-only takes the language model out of a model that also sees, "
            f"and '{kind}' is none of those that are known ({', '.join(LANGUAGE)}). Leave it out."
        )
    found = {name: _renamed(name) for name in tensors}
    if not any(found.values()):
        raise ConvertError(f"{config.where}: none of the tensors is one of a language model.")
    own = {new: tensors[name] for name, new in found.items() if new}
    text = config.data.get("text_config")
    data = dict(text) if isinstance(text, dict) else _flat(config.data)
    inner = str(data.get("model_type") or LANGUAGE[kind])
    inner = f"{kind}_text" if inner == kind else inner
    data = DEFAULTS.get(inner, {}) | data | {"model_type": ALIASES.get(inner, inner)}
    # whether the head is tied is said inside or outside, and not always truly: the file decides
    data["tie_word_embeddings"] = "lm_head.weight" not in own
    data.pop("architectures", None)
    for key in STORAGE:
        if isinstance(table := config.data.get(key), dict):
            data[key] = {_renamed(f"{name}.").rstrip(".") or name: v for name, v in table.items()}
    left = [name for name, new in found.items() if not new]
    part = HfConfig(data, f"{config.where}, text_config")
    text_positions(part)
    return part, own, left


def _renamed(name: str) -> str:
    """The name of a tensor in the language model's own family; empty if it isn't part of it."""
    for beginning, new in NAMES:
        if match := beginning.match(name):
            return new + name[match.end() :]
    return ""


def _flat(data: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key not in OUTER}
