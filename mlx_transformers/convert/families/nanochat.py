"""nanochat: norms without weights, one behind the embedding too, and pairs that turn backwards.

Defaults are those of `NanoChatConfig`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..rope import rotary
from ..transforms import Mirrored
from ..view import spelled
from ..weights import Row, rows
from .llama import BIASED, BLOCK, ENDS, HF_BLOCK, LLAMA, decoder
from .starcoder2 import ungated

DEFAULTS: Table = {
    "vocab_size": 50304,
    "hidden_size": 768,
    "intermediate_size": 8192,
    "num_hidden_layers": 12,
    "num_attention_heads": 6,
    "hidden_act": "relu2",
}


def model(config: HfConfig) -> Table:
    """The `[model]` table of a NanoChatConfig."""
    bias = config.get("attention_bias", False)
    table = decoder(config, bias=bias, gated=False, **DEFAULTS)
    norm = {"kind": "rms_norm", "eps": config.get("rms_norm_eps"), "weight": False}
    block = table["block"]
    table["norm"] = block["norm"] = table["embed"]["norm"] = norm
    block["mixer"] |= {"qk_norm": norm, "qk_norm_last": True}
    block["ffn"] = ungated(config, bias=False)
    if cap := config.get("final_logit_softcapping", 15.0):
        table["head"]["softcap"] = float(cap)
    return table


def weights(config: HfConfig) -> list[Row]:
    """The weight map of a nanochat: what turns backwards is what turns forwards, mirrored."""
    heads = config.get("num_attention_heads")
    groups = config.get("num_key_value_heads") or heads
    theirs = f"{HF_BLOCK}.self_attn"
    return [
        *ENDS,
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
    config=spelled(
        {
            **{key: told for key, told in BIASED.items() if key != "head_dim"},
            "final_logit_softcapping": "head.softcap",
        },
        rotary(),
    ),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
