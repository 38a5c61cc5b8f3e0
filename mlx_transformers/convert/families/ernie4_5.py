"""ERNIE 4.5: LLaMA whose neighbouring features turn together, with biases everywhere or nowhere.

Defaults are those of `Ernie4_5Config`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..rope import rotary
from ..view import biased, spelled
from .llama import KEYS, LLAMA, decoder, weights

DEFAULTS: Table = {
    "vocab_size": 103424,
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 18,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "head_dim": 128,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "tie_word_embeddings": True,
}


def model(config: HfConfig) -> Table:
    """The `[model]` table of an Ernie4_5Config."""
    bias = config.get("use_bias", False)
    table = decoder(config, bias=bias, mlp_bias=bias, **DEFAULTS)
    table["position"]["traditional"] = True
    return table


ERNIE4_5 = Family(
    model_types=("ernie4_5",),
    architecture="Ernie4_5ForCausalLM",
    model=model,
    weights=weights,
    config=spelled({**KEYS, "use_bias": biased}, rotary(traditional=True)),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
