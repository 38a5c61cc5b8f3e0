"""CWM: LLaMA with a sliding window in three layers of four.

Defaults are those of `CwmConfig`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import config_writer
from ..layer_types import FULL, SLIDING, layer_types, layer_types_of, windowed
from ..rope import rotary
from .llama import KEYS, LLAMA, decoder, weights

EVERY = 4
"""One layer of so many has no window: the first."""


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a CwmConfig."""
    table = decoder(config)
    window = config.get("sliding_window")
    types = layer_types(config, lambda i: SLIDING if i % EVERY else FULL)
    return windowed(table, types, window)


CWM = Family(
    model_types=("cwm",),
    architecture="CwmForCausalLM",
    model=model,
    weights=weights,
    config=config_writer(
        {
            **KEYS,
            "mlp_bias": "block.ffn.bias",
            "sliding_window": "block.mixer.window",
            "layer_types": layer_types_of,
        },
        rotary(),
    ),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
