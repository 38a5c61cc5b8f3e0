"""Qwen 2 and 2.5: LLaMA with biases on q, k and v, and a window in the upper layers.

Defaults are those of `Qwen2Config`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import FlatModel, config_writer
from ..layer_types import FULL, SLIDING, layer_types, layer_types_of, windowed
from ..rope import rotary
from .llama import KEYS, LLAMA, decoder, weights


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a Qwen2Config."""
    table = decoder(config)
    table["block"]["mixer"]["bias"] = True
    return upper_windows(config, table)


def upper_windows(config: HfConfig, table: Table) -> Table:
    """Return a table with the window in layers from `max_window_layers` on, if it is used."""
    size, used = config.get("sliding_window"), config.get("use_sliding_window")
    first, window = config.get("max_window_layers"), size if used else None
    types = layer_types(config, lambda i: SLIDING if window and i >= first else FULL)
    return windowed(table, types, window)


def windows(view: FlatModel) -> Table:
    """Return which layers have a window, and its width."""
    types = layer_types_of(view)
    used = SLIDING in types
    return {
        "use_sliding_window": used,
        "sliding_window": view.get("block.mixer.window"),
        "max_window_layers": types.index(SLIDING) if used else len(types),
        "layer_types": types,
    }


QWEN2 = Family(
    model_types=("qwen2",),
    architecture="Qwen2ForCausalLM",
    model=model,
    weights=weights,
    config=config_writer(KEYS, rotary(), windows),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
