"""Apertus: LLaMA with normed queries and keys, and a learned activation without gate.

Defaults are those of `ApertusConfig`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..rope import rotary
from ..view import View, spelled
from ..weights import Row, rows
from .llama import ATTENTION, BIASED, BLOCK, ENDS, HF_BLOCK, LLAMA, decoder
from .starcoder2 import ungated

DEFAULTS: Table = {
    "vocab_size": 131072,
    "intermediate_size": 14336,
    "max_position_embeddings": 65536,
    "rms_norm_eps": 1e-5,
    "rope_theta": 12000000.0,
    "rope_parameters": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
}


def model(config: HfConfig) -> Table:
    """The `[model]` table of an ApertusConfig."""
    learned = config.get("hidden_act", "xielu") == "xielu"
    table = decoder(config, bias=config.get("attention_bias", False), gated=False, **DEFAULTS)
    # what their own code is told, and theirs in transformers takes for granted
    config.expect("qk_norm", True)
    config.expect("mlp_bias", False)
    config.expect("post_norm", False)
    table["block"]["mixer"]["qk_norm"] = table["norm"]
    width = {"kind": "xielu", "hidden_dim": config.get("intermediate_size")}
    table["block"]["ffn"] = width if learned else ungated(config, bias=False)
    return table


def weights(config: HfConfig) -> list[Row]:
    """The weight map of an Apertus."""
    norms, mlp = "{attention,feedforward}_layernorm", f"{HF_BLOCK}.mlp"
    return [
        *ENDS,
        *ATTENTION,
        *rows(f"{BLOCK}.{{mixer,ffn}}_residual.pre", f"{HF_BLOCK}.{norms}"),
        *rows(f"{BLOCK}.ffn.{{up,down}}", f"{mlp}.{{up,down}}_proj"),
        *rows(f"{BLOCK}.ffn.{{positive,negative}}", f"{mlp}.act_fn.{{alpha_p,alpha_n}}"),
    ]


def act(view: View) -> Table:
    """The activation, which is learned or has a name."""
    learned = view.get("block.ffn.kind") == "xielu"
    return {"hidden_act": "xielu"} if learned else {}


APERTUS = Family(
    model_types=("apertus",),
    architecture="ApertusForCausalLM",
    model=model,
    weights=weights,
    config=spelled(BIASED, rotary(), act),
    renames=LLAMA.renames,
    dropped=(r"\.act_fn\.(beta|eps)$",),
    tied=LLAMA.tied,
)
