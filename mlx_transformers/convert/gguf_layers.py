"""Facts that llama.cpp takes for granted of an architecture's layers, as functions of its config.

Some of it depends on the number of layers, by which llama.cpp tells published sizes
(`src/models/*.cpp`, `load_arch_hparams`).
"""

from typing import Any

from .config import HfConfig
from .layer_types import FULL, SLIDING

LARGEST_GEMMA = {"gemma2": 46, "gemma3_text": 62}
"""Layers of Gemma's 27B."""
LARGE_EXAONE = 64
"""Layers of EXAONE 4.0 32B."""


def score_divisor(config: HfConfig) -> Any:
    """Return the number whose root divides the scores: the width of a head, and in Gemma's 27B the
    share of a head in the width of the model."""
    if config.get("num_hidden_layers") == LARGEST_GEMMA[config.model_type]:
        return config.get("hidden_size") // config.get("num_attention_heads")
    return config.get("head_dim")


def score_cap(config: HfConfig) -> str:
    """Return what is lacking where Gemma 2's scores have no bound."""
    if config.get("attn_logit_softcapping"):
        return ""
    return "llama.cpp bounds the scores of a gemma2, and this one has no attn_logit_softcapping."


def shared_keys(config: HfConfig) -> str:
    """Return what is lacking where heads of an OLMoE share keys, whose norm llama.cpp takes to be
    as wide as the model."""
    heads, groups = config.get("num_attention_heads"), config.get("num_key_value_heads")
    if groups in (None, heads):
        return ""
    return f"llama.cpp has a key for each head in an olmoe, and this one has {groups} for {heads}."


def all_whole_but_large(config: HfConfig) -> str:
    """Return what is lacking where an EXAONE 4 has the layers of 32B, and no window."""
    if config.get("num_hidden_layers") != LARGE_EXAONE:
        return ""
    return f"llama.cpp gives an exaone4 of {LARGE_EXAONE} layers a window, and this one has none."


PATTERN = "attention.sliding_window_pattern"
"""GGUF's key of the layers with a window, as one truth per layer, or every which one has none."""


def layers_of(pattern: Any, usual: list[str]) -> list[str]:
    """Return the attention type of each layer by the key `PATTERN`; None stands for `usual`."""
    if pattern is None:
        return usual
    if isinstance(pattern, int):
        pattern = [pattern == 0 or i % pattern < pattern - 1 for i in range(len(usual))]
    return [SLIDING if slides else FULL for slides in pattern[: len(usual)]]


def pattern_of(types: list[str] | None, usual: list[str]) -> list[int] | None:
    """Return the key `PATTERN` of layers, None where they are the usual ones."""
    return None if not types or types == usual else [int(kind == SLIDING) for kind in types]


def by_turns(config: HfConfig) -> list[str]:
    """Return layers with and without a window by turns."""
    return [SLIDING if i % 2 == 0 else FULL for i in range(config.get("num_hidden_layers"))]


def every_sixth_whole(config: HfConfig) -> list[str]:
    """Return Gemma 3's layers, of which every sixth has no window."""
    return [SLIDING if (i + 1) % 6 else FULL for i in range(config.get("num_hidden_layers"))]


def every_fourth_without(config: HfConfig) -> list[int]:
    """Return SmolLM3's layers with rotary positions as ones: all but every fourth."""
    return [int((i + 1) % 4 != 0) for i in range(config.get("num_hidden_layers"))]


def every_fourth_whole(config: HfConfig) -> list[str]:
    """Return Command R7B's layers, of which every fourth has no window."""
    return [SLIDING if (i + 1) % 4 else FULL for i in range(config.get("num_hidden_layers"))]


def all_whole(config: HfConfig) -> list[str]:
    """Return layers none of which has a window."""
    return [FULL] * config.get("num_hidden_layers")


def four_times(config: HfConfig) -> int:
    """Return the width of an ffn that is four times that of the model."""
    return 4 * int(config.get("hidden_size"))
