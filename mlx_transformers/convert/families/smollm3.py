"""SmolLM 3: LLaMA without positions in every fourth layer.

Defaults are those of `SmolLM3Config`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..pattern import FULL, SLIDING, layer_types, patterned
from ..rope import rotary
from ..view import View, spelled
from .llama import BIASED, LLAMA, decoder, weights
from .qwen2 import windows

DEFAULTS: Table = {
    "vocab_size": 128256,
    "hidden_size": 2048,
    "num_hidden_layers": 36,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "max_position_embeddings": 32768,
    "rope_theta": 2000000.0,
    "tie_word_embeddings": True,
}


def model(config: HfConfig) -> Table:
    """The `[model]` table of a SmolLM3Config."""
    table = decoder(config, bias=config.get("attention_bias", False), **DEFAULTS)
    count, every = config.get("num_hidden_layers"), config.get("no_rope_layer_interval", 4)
    ones = [int((i + 1) % every != 0) for i in range(count)]
    turned = config.get("no_rope_layers", None) or ones
    size, used = config.get("sliding_window", None), config.get("use_sliding_window", False)
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


def turned(view: View) -> Table:
    """Which layers have positions, as ones."""
    return {"no_rope_layers": [int(x["position"]["kind"] == "rope") for x in view.layers]}


SMOLLM3 = Family(
    model_types=("smollm3",),
    architecture="SmolLM3ForCausalLM",
    model=model,
    weights=weights,
    config=spelled(BIASED, rotary(), windows, turned),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
