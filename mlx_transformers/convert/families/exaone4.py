"""EXAONE 4: norms behind attention and ffn, normed queries and keys, local layers with positions.

Layers without a window have no positions where others have one. Defaults are those of
`Exaone4Config`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..pattern import FULL, SLIDING, attended, layer_types, patterned
from ..rope import rotary
from ..view import spelled
from .llama import KEYS, LLAMA, decoder
from .olmo2 import weights

DEFAULTS: Table = {
    "vocab_size": 102400,
    "intermediate_size": 16384,
    "num_key_value_heads": 32,
    "rms_norm_eps": 1e-5,
}


def model(config: HfConfig) -> Table:
    """The `[model]` table of an Exaone4Config."""
    table = decoder(config, **DEFAULTS)
    table["block"]["placement"] = "reordered"
    table["block"]["mixer"]["qk_norm"] = table["norm"]
    window, every = config.get("sliding_window", 4096), config.get("sliding_window_pattern", 4)
    types = layer_types(config, lambda i: SLIDING if window and (i + 1) % every else FULL)
    sliding = {"mixer": {"window": window}} if window else {}
    full = {"position": {"kind": "none"}} if window else {}
    return patterned(table, types, {FULL: full, SLIDING: sliding})


EXAONE4 = Family(
    model_types=("exaone4",),
    architecture="Exaone4ForCausalLM",
    model=model,
    weights=weights,
    config=spelled(
        {**KEYS, "sliding_window": "block.mixer.window", "layer_types": attended}, rotary()
    ),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
