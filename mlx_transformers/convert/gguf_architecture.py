"""An architecture of llama.cpp: what its files have, and what they take for granted."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .config import HfConfig
from .family import Family
from .gguf_keys import KEYS
from .gguf_positions import Positions, Rotary
from .rows import Row


@dataclass(frozen=True)
class Architecture:
    """An architecture of llama.cpp.

    Attributes:
        families: its families, by `model_type`.
        weights: the weight map of its files.
        activation: its only activation, and the key of config.json that names it; an empty key
            where the family has the exact GELU alone.
        keys: GGUF's keys and those of config.json.
        positions: the keys of its positions; None where it has none.
        fixed: keys of config.json and their only value, or a function of the config that gives it.
        constants: GGUF's keys that config.json lacks, and their only value, or a function of the
            config that gives it.
        zeros: keys of config.json whose null is a 0 in a file, where llama.cpp asks for the key or
            has a default of its own.
        absent: keys of config.json and the value of files that lack theirs, where it is not the
            default of config.json.
        signs: keys of config.json that a tensor decides: its name, the value with it and that
            without.
        windows: whether it has sliding windows.
        pattern: the attention type of each layer where a file doesn't say; None where it can't.
        lacks: what llama.cpp lacks of a config, as a sentence; empty where it lacks nothing.
        name: llama.cpp's name where two share it; empty: the name in the table.
        marks: GGUF's keys and values by which a file is of this one of the two.
    """

    families: dict[str, Family]
    weights: Callable[[HfConfig], list[Row]]
    activation: tuple[str, str] = ("silu", "hidden_act")
    keys: Mapping[str, str] = field(default_factory=lambda: KEYS)
    positions: Positions | None = field(default_factory=Rotary)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    constants: Mapping[str, float | str | Callable[[HfConfig], int]] = field(default_factory=dict)
    zeros: tuple[str, ...] = ()
    absent: Mapping[str, Any] = field(default_factory=dict)
    signs: Mapping[str, tuple[str, Any, Any]] = field(default_factory=dict)
    windows: bool = False
    pattern: Callable[[HfConfig], list[str]] | None = None
    lacks: Callable[[HfConfig], str] = lambda config: ""
    name: str = ""
    marks: Mapping[str, int] = field(default_factory=dict)
