"""Qwen 3: Qwen 2 with normed queries and keys instead of biases.

Defaults are those of `Qwen3Config`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..rope import rotary
from ..view import spelled
from .llama import BIASED, LLAMA, decoder, weights
from .qwen2 import DEFAULTS, upper_windows, windows


def model(config: HfConfig) -> Table:
    """The `[model]` table of a Qwen3Config."""
    bias = config.get("attention_bias", False)
    table = decoder(config, bias=bias, **{**DEFAULTS, "head_dim": 128})
    table["block"]["mixer"]["qk_norm"] = table["norm"]
    return upper_windows(config, table)


QWEN3 = Family(
    model_types=("qwen3",),
    architecture="Qwen3ForCausalLM",
    model=model,
    weights=weights,
    config=spelled(BIASED, rotary(), windows),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
