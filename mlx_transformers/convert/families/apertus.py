"""Apertus: LLaMA with normed queries and keys, and a learned activation without gate.

Defaults are those of `ApertusConfig`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import FlatModel, config_writer
from ..rope import rotary
from ..rows import BLOCK, Row, rows
from .llama import ATTENTION, BIASED, HF_BLOCK, LLAMA, OUTER_ROWS, decoder
from .starcoder2 import ungated


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of an ApertusConfig."""
    learned = config.get("hidden_act") == "xielu"
    table = decoder(config, bias=config.get("attention_bias"), gated=False)
    # given in their own config, assumed by transformers
    config.expect("qk_norm", True)
    config.expect("mlp_bias", False)
    config.expect("post_norm", False)
    table["block"]["mixer"]["qk_norm"] = table["norm"]
    width = {"kind": "xielu", "hidden_dim": config.get("intermediate_size")}
    table["block"]["ffn"] = width if learned else ungated(config, bias=False)
    return table


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of an Apertus."""
    norms, mlp = "{attention,feedforward}_layernorm", f"{HF_BLOCK}.mlp"
    return [
        *OUTER_ROWS,
        *ATTENTION,
        *rows(f"{BLOCK}.{{mixer,ffn}}_residual.pre", f"{HF_BLOCK}.{norms}"),
        *rows(f"{BLOCK}.ffn.{{up,down}}", f"{mlp}.{{up,down}}_proj"),
        *rows(f"{BLOCK}.ffn.{{positive,negative}}", f"{mlp}.act_fn.{{alpha_p,alpha_n}}"),
    ]


def act(view: FlatModel) -> Table:
    """Return the activation: the learned xIELU, or a named one."""
    learned = view.get("block.ffn.kind") == "xielu"
    return {"hidden_act": "xielu"} if learned else {}


APERTUS = Family(
    model_types=("apertus",),
    architecture="ApertusForCausalLM",
    model=model,
    weights=weights,
    config=config_writer(BIASED, rotary(), act),
    renames=LLAMA.renames,
    dropped=(r"\.act_fn\.(beta|eps)$",),
    tied=LLAMA.tied,
)
