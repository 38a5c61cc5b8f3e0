"""The layers that llama.cpp takes for granted of an architecture, as functions of its config."""

from typing import Any

from .config import HfConfig
from .layer_types import FULL, SLIDING


def head_width(config: HfConfig) -> Any:
    """Return the width of a head, whose root divides the scores in llama.cpp."""
    return config.get("head_dim")


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
