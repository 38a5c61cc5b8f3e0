"""CWM: LLaMA with a sliding window in three layers of four.

Defaults are those of `CwmConfig`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..pattern import FULL, SLIDING, attended, layer_types, windowed
from ..rope import rotary
from ..view import spelled
from .llama import KEYS, LLAMA, decoder, weights

DEFAULTS: Table = {
    "vocab_size": 128256,
    "hidden_size": 6144,
    "intermediate_size": 21504,
    "num_hidden_layers": 64,
    "num_attention_heads": 48,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1e6,
    "rope_parameters": {
        "rope_type": "llama3",
        "factor": 16.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
}
EVERY = 4
"""One layer of so many has no window: the first."""


def model(config: HfConfig) -> Table:
    """The `[model]` table of a CwmConfig."""
    table = decoder(config, **DEFAULTS)
    window = config.get("sliding_window", 8192)
    types = layer_types(config, lambda i: SLIDING if i % EVERY else FULL)
    return windowed(table, types, window)


CWM = Family(
    model_types=("cwm",),
    architecture="CwmForCausalLM",
    model=model,
    weights=weights,
    config=spelled(
        {
            **KEYS,
            "mlp_bias": "block.ffn.bias",
            "sliding_window": "block.mixer.window",
            "layer_types": attended,
        },
        rotary(),
    ),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
