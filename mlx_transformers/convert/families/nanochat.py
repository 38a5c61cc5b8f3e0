"""nanochat: norms without weights, one behind the embedding too, and pairs that turn backwards.

Defaults are those of `NanoChatConfig`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import config_writer
from ..rope import rotary
from ..rows import BLOCK, Row, rows
from ..transforms import Mirrored
from .llama import BIASED, HF_BLOCK, LLAMA, OUTER_ROWS, decoder
from .starcoder2 import ungated


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a NanoChatConfig."""
    bias = config.get("attention_bias")
    table = decoder(config, bias=bias, gated=False)
    norm = {"kind": "rms_norm", "eps": config.get("rms_norm_eps"), "weight": False}
    block = table["block"]
    table["norm"] = block["norm"] = table["embed"]["norm"] = norm
    block["mixer"] |= {"qk_norm": norm, "qk_norm_last": True}
    block["ffn"] = ungated(config, bias=False)
    if cap := config.get("final_logit_softcapping"):
        table["head"]["softcap"] = float(cap)
    return table


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a nanochat, whose rotation in the other direction is mirrored."""
    heads = config.get("num_attention_heads")
    groups = config.get("num_key_value_heads") or heads
    theirs = f"{HF_BLOCK}.self_attn"
    return [
        *OUTER_ROWS,
        Row(f"{BLOCK}.mixer.q", f"{theirs}.q_proj", Mirrored(heads)),
        Row(f"{BLOCK}.mixer.k", f"{theirs}.k_proj", Mirrored(groups)),
        *rows(f"{BLOCK}.mixer.{{v,o}}", f"{theirs}.{{v,o}}_proj"),
        *rows(f"{BLOCK}.ffn.{{up,down}}", f"{HF_BLOCK}.mlp.{{fc1,fc2}}"),
    ]


NANOCHAT = Family(
    model_types=("nanochat",),
    architecture="NanoChatForCausalLM",
    model=model,
    weights=weights,
    config=config_writer(
        {
            **{key: path for key, path in BIASED.items() if key != "head_dim"},
            "final_logit_softcapping": "head.softcap",
        },
        rotary(),
    ),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
