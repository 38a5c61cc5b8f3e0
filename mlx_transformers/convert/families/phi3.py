"""Phi-3, 3.5 and 4: LLaMA with packed matrices, and LongRoPE for the long ones.

Defaults are those of `Phi3Config`.
"""

from typing import Any

from ..config import HfConfig
from ..family import Family, Table
from ..rope import rotary
from ..transforms import Split
from ..view import MISSING, View, spelled
from ..weights import Row
from .glm import packed
from .llama import BLOCK, HF_BLOCK, KEYS, LLAMA, around, decoder

DEFAULTS: Table = {
    "vocab_size": 32064,
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "max_position_embeddings": 4096,
    "original_max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
}


def model(config: HfConfig) -> Table:
    """The `[model]` table of a Phi3Config."""
    table = rereading(decoder(config, fraction=1.0, **DEFAULTS))
    if window := config.get("sliding_window", None):
        table["block"]["mixer"]["window"] = window
    table["block"]["dropout"] = float(config.get("resid_pdrop", 0.0))
    table["embed"]["dropout"] = float(config.get("embd_pdrop", 0.0))
    return table


def rereading(table: Table) -> Table:
    """A table whose texts are read anew where LongRoPE's long set takes over, as in Phi's code."""
    scaling = table["position"].get("scaling") or {}
    if scaling.get("kind") == "longrope":
        scaling["reread"] = True
    return table


def weights(config: HfConfig) -> list[Row]:
    """The weight map of a Phi-3."""
    heads = config.get("num_attention_heads")
    groups = config.get("num_key_value_heads") or heads
    width = config.get("head_dim") or config.get("hidden_size") // heads
    sizes = (heads * width, groups * width, groups * width)
    ours = tuple(f"{BLOCK}.mixer.{x}" for x in "qkv")
    return [
        Row(ours, f"{HF_BLOCK}.self_attn.qkv_proj", Split(sizes)),
        *(row for row in around() if row.ours not in ours),
        *packed(config),
    ]


def trained_len(view: View) -> Any:
    """The context before it was stretched, the whole of it where it wasn't."""
    stretched = view.get("block.position.scaling.trained_len")
    return view.get("max_seq_len") if stretched is MISSING else stretched


PHI3 = Family(
    model_types=("phi3",),
    architecture="Phi3ForCausalLM",
    model=model,
    weights=weights,
    config=spelled(
        {
            **KEYS,
            "sliding_window": "block.mixer.window",
            "resid_pdrop": "block.dropout",
            "embd_pdrop": "embed.dropout",
            "original_max_position_embeddings": trained_len,
        },
        rotary(fraction_key="partial_rotary_factor"),
    ),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
