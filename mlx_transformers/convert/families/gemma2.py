"""Gemma 2: norms on both sides, bounded scores and logits, a window in every other layer.

VaultGemma has the norms in front alone. Defaults are those of `Gemma2Config`, which both have.
"""

import math

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import FlatModel, PathOrFn, config_writer
from ..layer_types import FULL, SLIDING, layer_types, layer_types_of, window_of, windowed
from ..rope import rotary
from ..rows import BLOCK, Row
from .gemma import KEYS, gemma
from .llama import ATTENTION, GATED, HF_BLOCK, LLAMA, OUTER_ROWS


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a Gemma2Config."""
    table = sandwiched(config, gemma(config))
    if cap := config.get("attn_logit_softcapping"):
        table["block"]["mixer"]["softcap"] = float(cap)
    if cap := config.get("final_logit_softcapping"):
        table["head"]["softcap"] = float(cap)
    types = layer_types(config, lambda i: FULL if i % 2 else SLIDING)
    return windowed(table, types, config.get("sliding_window"))


def vault(config: HfConfig) -> Table:
    """Return the `[model]` table of a VaultGemmaConfig: Gemma 2 with the norms in front alone."""
    table = model(config)
    table["block"]["placement"] = "pre"
    return table


def sandwiched(config: HfConfig, table: Table) -> Table:
    """Return a table with four norms a block and Gemma 2's scale of the scores."""
    table["block"]["placement"] = "sandwich"
    table["block"]["mixer"]["scale"] = config.get("query_pre_attn_scalar") ** -0.5
    return table


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a Gemma 2 or 3."""
    return [
        *OUTER_ROWS,
        *ATTENTION,
        *GATED,
        Row(f"{BLOCK}.mixer_residual.pre", f"{HF_BLOCK}.input_layernorm"),
        Row(f"{BLOCK}.mixer_residual.post", f"{HF_BLOCK}.post_attention_layernorm"),
        Row(f"{BLOCK}.ffn_residual.pre", f"{HF_BLOCK}.pre_feedforward_layernorm"),
        Row(f"{BLOCK}.ffn_residual.post", f"{HF_BLOCK}.post_feedforward_layernorm"),
    ]


def query_scalar(view: FlatModel) -> float:
    """Return `1 / scale²`, as an integer if it is one."""
    scalar = view.number("block.mixer.scale") ** -2
    return round(scalar) if math.isclose(scalar, round(scalar), rel_tol=1e-9) else scalar


SANDWICHED: dict[str, PathOrFn] = {
    **KEYS,
    "query_pre_attn_scalar": query_scalar,
    "sliding_window": window_of,
    "layer_types": layer_types_of,
    "attn_logit_softcapping": "block.mixer.softcap",
    "final_logit_softcapping": "head.softcap",
}

GEMMA2 = Family(
    model_types=("gemma2",),
    architecture="Gemma2ForCausalLM",
    model=model,
    weights=weights,
    config=config_writer(SANDWICHED, rotary()),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)

VAULTGEMMA = Family(
    model_types=("vaultgemma",),
    architecture="VaultGemmaForCausalLM",
    model=vault,
    weights=weights,
    config=config_writer(SANDWICHED, rotary()),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
