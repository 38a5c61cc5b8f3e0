"""Gemma 3: normed queries and keys instead of soft caps, five local layers to one global.

Local layers have a window and rotary parameters of their own. Defaults are those of
`Gemma3TextConfig`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..pattern import FULL, SLIDING, layer_types, patterned
from ..rope import rope_of_layer, rotary_by_layer
from ..view import spelled
from .gemma import gemma
from .gemma2 import DEFAULTS as GEMMA2
from .gemma2 import SANDWICHED, sandwiched, weights
from .llama import LLAMA

DEFAULTS: Table = GEMMA2 | {
    "vocab_size": 262208,
    "max_position_embeddings": 131072,
    "rope_theta": 1e6,
}


def model(config: HfConfig) -> Table:
    """The `[model]` table of a Gemma3TextConfig."""
    table = sandwiched(config, gemma(config, activation="hidden_activation", **DEFAULTS))
    config.expect("attn_logit_softcapping", None)
    if cap := config.get("final_logit_softcapping", None):
        table["head"]["softcap"] = float(cap)
    table["block"]["mixer"]["qk_norm"] = table["norm"]
    every = config.get("sliding_window_pattern", 6)
    config.ignore("_sliding_window_pattern")
    types = layer_types(config, lambda i: SLIDING if (i + 1) % every else FULL)
    table["position"] = rope_of_layer(config, FULL, theta=DEFAULTS["rope_theta"])
    local = rope_of_layer(config, SLIDING, theta=1e4, theta_key="rope_local_base_freq")
    sliding = {"mixer": {"window": config.get("sliding_window", 4096)}, "position": local}
    return patterned(table, types, {FULL: {}, SLIDING: sliding})


GEMMA3 = Family(
    model_types=("gemma3_text",),
    architecture="Gemma3ForCausalLM",
    model=model,
    weights=weights,
    config=spelled(SANDWICHED, rotary_by_layer("rope_theta", "rope_local_base_freq")),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
