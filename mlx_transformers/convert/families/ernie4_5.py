"""ERNIE 4.5: LLaMA whose neighbouring features turn together, with biases everywhere or nowhere.

Defaults are those of `Ernie4_5Config`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import biased, config_writer
from ..rope import rotary
from .llama import KEYS, LLAMA, decoder, weights


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of an Ernie4_5Config."""
    bias = config.get("use_bias")
    config.assume({"mlp_bias": bias})
    table = decoder(config, bias=bias)
    table["position"]["traditional"] = True
    return table


ERNIE4_5 = Family(
    model_types=("ernie4_5",),
    architecture="Ernie4_5ForCausalLM",
    model=model,
    weights=weights,
    config=config_writer({**KEYS, "use_bias": biased}, rotary(traditional=True)),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
