"""Qwen 2 and 2.5: LLaMA with biases on q, k and v, and a window in the upper layers.

Defaults are those of `Qwen2Config`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..pattern import FULL, SLIDING, attended, layer_types, windowed
from ..rope import rotary
from ..view import View, spelled
from .llama import KEYS, LLAMA, decoder, weights

DEFAULTS: Table = {
    "vocab_size": 151936,
    "intermediate_size": 22016,
    "num_key_value_heads": 32,
    "max_position_embeddings": 32768,
}


def model(config: HfConfig) -> Table:
    """The `[model]` table of a Qwen2Config."""
    table = decoder(config, **DEFAULTS)
    table["block"]["mixer"]["bias"] = True
    return upper_windows(config, table)


def upper_windows(config: HfConfig, table: Table) -> Table:
    """A table with the window in layers from `max_window_layers` on, where it is used at all."""
    size, used = config.get("sliding_window", 4096), config.get("use_sliding_window", False)
    first, window = config.get("max_window_layers", 28), size if used else None
    types = layer_types(config, lambda i: SLIDING if window and i >= first else FULL)
    return windowed(table, types, window)


def windows(view: View) -> Table:
    """Which layers have a window, and how wide it is."""
    types = attended(view)
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
    config=spelled(KEYS, rotary(), windows),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
