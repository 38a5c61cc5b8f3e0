"""Phi-3, 3.5 and 4: LLaMA with packed matrices, and LongRoPE for the long ones.

Defaults are those of `Phi3Config`.
"""

from typing import Any

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import MISSING, FlatModel, config_writer
from ..rope import rotary
from ..rows import BLOCK, Row, without
from ..transforms import Split
from .glm import packed
from .llama import HF_BLOCK, KEYS, LLAMA, decoder, outer_rows


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a Phi3Config."""
    table = rereading(decoder(config, partial=True))
    if window := config.get("sliding_window"):
        table["block"]["mixer"]["window"] = window
    table["block"]["dropout"] = float(config.get("resid_pdrop"))
    table["embed"]["dropout"] = float(config.get("embd_pdrop"))
    return table


def rereading(table: Table) -> Table:
    """Return a table that recomputes cached keys where LongRoPE's long set takes over."""
    scaling = table["position"].get("scaling") or {}
    if scaling.get("kind") == "longrope":
        scaling["reread"] = True
    return table


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a Phi-3."""
    heads = config.get("num_attention_heads")
    groups = config.get("num_key_value_heads") or heads
    width = config.get("head_dim") or config.get("hidden_size") // heads
    sizes = (heads * width, groups * width, groups * width)
    ours = tuple(f"{BLOCK}.mixer.{x}" for x in "qkv")
    return [
        Row(ours, f"{HF_BLOCK}.self_attn.qkv_proj", Split(sizes)),
        *without(outer_rows(), *ours),
        *packed(config),
    ]


def trained_len(view: FlatModel) -> Any:
    """Return the context before it was extended."""
    stretched = view.get("block.position.scaling.trained_len")
    return view.get("max_seq_len") if stretched is MISSING else stretched


PHI3 = Family(
    model_types=("phi3",),
    architecture="Phi3ForCausalLM",
    model=model,
    weights=weights,
    config=config_writer(
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
