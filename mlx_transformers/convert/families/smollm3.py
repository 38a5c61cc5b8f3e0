"""SmolLM 3: LLaMA without positions in every fourth layer.

Defaults are those of `SmolLM3Config`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import FlatModel, config_writer
from ..layer_types import FULL, SLIDING, layer_types, patterned
from ..rope import rotary
from .llama import BIASED, LLAMA, decoder, weights
from .qwen2 import windows


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a SmolLM3Config."""
    table = decoder(config, bias=config.get("attention_bias"))
    count, every = config.get("num_hidden_layers"), config.get("no_rope_layer_interval")
    ones = [int((i + 1) % every != 0) for i in range(count)]
    turned = config.get("no_rope_layers") or ones
    size, used = config.get("sliding_window"), config.get("use_sliding_window")
    config.ignore("max_window_layers")
    window = size if used else None
    types = layer_types(config, lambda i: SLIDING if window and not turned[i] else FULL)
    names = [
        ("sliding" if types[i] == SLIDING else "full") + ("" if turned[i] else "_nope")
        for i in range(count)
    ]
    sliding = {"mixer": {"window": window}} if window else {}
    nope = {"position": {"kind": "none"}}
    variants = {"full": {}, "full_nope": nope, "sliding": sliding, "sliding_nope": sliding | nope}
    return patterned(table, names, variants)


def turned(view: FlatModel) -> Table:
    """Return the layers that have positions, as ones."""
    return {"no_rope_layers": [int(x["position"]["kind"] == "rope") for x in view.layers]}


SMOLLM3 = Family(
    model_types=("smollm3",),
    architecture="SmolLM3ForCausalLM",
    model=model,
    weights=weights,
    config=config_writer(BIASED, rotary(), windows, turned),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
