"""Gemma 3: normed queries and keys instead of soft caps, five local layers to one global.

Local layers have a window and rotary parameters of their own. Defaults are those of
`Gemma3TextConfig`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import config_writer
from ..layer_types import FULL, SLIDING, layer_types, patterned
from ..rope import rope_of_layer, rotary_by_layer
from .gemma import gemma
from .gemma2 import SANDWICHED, sandwiched, weights
from .llama import LLAMA


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a Gemma3TextConfig."""
    table = sandwiched(config, gemma(config))
    config.expect("attn_logit_softcapping", None)
    if cap := config.get("final_logit_softcapping"):
        table["head"]["softcap"] = float(cap)
    table["block"]["mixer"]["qk_norm"] = table["norm"]
    every = config.get("sliding_window_pattern")
    config.ignore("_sliding_window_pattern")
    types = layer_types(config, lambda i: SLIDING if (i + 1) % every else FULL)
    table["position"] = rope_of_layer(config, FULL)
    local = rope_of_layer(config, SLIDING, theta_key="rope_local_base_freq")
    sliding = {"mixer": {"window": config.get("sliding_window")}, "position": local}
    return patterned(table, types, {FULL: {}, SLIDING: sliding})


GEMMA3 = Family(
    model_types=("gemma3_text",),
    architecture="Gemma3ForCausalLM",
    model=model,
    weights=weights,
    config=config_writer(SANDWICHED, rotary_by_layer("rope_theta", "rope_local_base_freq")),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
