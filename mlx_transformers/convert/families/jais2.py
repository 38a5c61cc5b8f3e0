"""Jais 2: LLaMA with layer norms, biases, and a squared relu without gate.

Defaults are those of `Jais2Config`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..rope import rotary
from ..view import biased, spelled
from .llama import BARE, LLAMA, decoder, weights
from .starcoder2 import ungated

DEFAULTS: Table = {
    "vocab_size": 150272,
    "hidden_size": 3328,
    "intermediate_size": 26624,
    "num_attention_heads": 26,
    "hidden_act": "relu2",
    "max_position_embeddings": 8192,
    "rms_norm_eps": 0.0,
}


def model(config: HfConfig) -> Table:
    """The `[model]` table of a Jais2Config."""
    table = decoder(config, bias=config.get("attention_bias", True), **DEFAULTS)
    norm = {"kind": "layer_norm", "eps": config.get("layer_norm_eps", 1e-5)}
    table["norm"] = table["block"]["norm"] = norm
    table["block"]["ffn"] = ungated(config, config.get("mlp_bias", True))
    return table


JAIS2 = Family(
    model_types=("jais2",),
    architecture="Jais2ForCausalLM",
    model=model,
    weights=weights,
    config=spelled(
        {
            **BARE,
            "layer_norm_eps": "norm.eps",
            "attention_bias": biased,
            "mlp_bias": "block.ffn.bias",
        },
        rotary(),
    ),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
