"""Qwen 3: Qwen 2 with normed queries and keys instead of biases.

Defaults are those of `Qwen3Config`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import config_writer
from ..rope import rotary
from .llama import BIASED, LLAMA, decoder, weights
from .qwen2 import upper_windows, windows


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a Qwen3Config."""
    bias = config.get("attention_bias")
    table = decoder(config, bias=bias)
    table["block"]["mixer"]["qk_norm"] = table["norm"]
    return upper_windows(config, table)


QWEN3 = Family(
    model_types=("qwen3",),
    architecture="Qwen3ForCausalLM",
    model=model,
    weights=weights,
    config=config_writer(BIASED, rotary(), windows),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
