"""Gemma 2: norms on both sides, bounded scores and logits, a window in every other layer.

VaultGemma has the norms in front alone. Defaults are those of `Gemma2Config`, which both have.
"""

import math

from ..config import HfConfig
from ..family import Family, Table
from ..pattern import FULL, SLIDING, attended, layer_types, windowed
from ..rope import rotary
from ..view import Told, View, spelled
from ..weights import Row
from .gemma import DEFAULTS as GEMMA
from .gemma import KEYS, gemma
from .llama import ATTENTION, BLOCK, ENDS, GATED, HF_BLOCK, LLAMA

DEFAULTS: Table = GEMMA | {
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
}


def model(config: HfConfig) -> Table:
    """The `[model]` table of a Gemma2Config."""
    table = sandwiched(config, gemma(config, activation="hidden_activation", **DEFAULTS))
    if cap := config.get("attn_logit_softcapping", 50.0):
        table["block"]["mixer"]["softcap"] = float(cap)
    if cap := config.get("final_logit_softcapping", 30.0):
        table["head"]["softcap"] = float(cap)
    types = layer_types(config, lambda i: FULL if i % 2 else SLIDING)
    return windowed(table, types, config.get("sliding_window", 4096))


def vault(config: HfConfig) -> Table:
    """The `[model]` table of a VaultGemmaConfig: Gemma 2 with the norms in front alone."""
    table = model(config)
    table["block"]["placement"] = "pre"
    return table


def sandwiched(config: HfConfig, table: Table) -> Table:
    """What Gemma 2 and 3 share beyond Gemma 1: four norms, and scores by their own scalar."""
    table["block"]["placement"] = "sandwich"
    table["block"]["mixer"]["scale"] = config.get("query_pre_attn_scalar", 256) ** -0.5
    return table


def weights(config: HfConfig) -> list[Row]:
    """The weight map of a Gemma 2 or 3."""
    return [
        *ENDS,
        *ATTENTION,
        *GATED,
        Row(f"{BLOCK}.mixer_residual.pre", f"{HF_BLOCK}.input_layernorm"),
        Row(f"{BLOCK}.mixer_residual.post", f"{HF_BLOCK}.post_attention_layernorm"),
        Row(f"{BLOCK}.ffn_residual.pre", f"{HF_BLOCK}.pre_feedforward_layernorm"),
        Row(f"{BLOCK}.ffn_residual.post", f"{HF_BLOCK}.post_feedforward_layernorm"),
    ]


def query_scalar(view: View) -> float:
    """The number by whose root scores are divided; a whole one, if it is one."""
    scalar = view.number("block.mixer.scale") ** -2
    return round(scalar) if math.isclose(scalar, round(scalar), rel_tol=1e-9) else scalar


SANDWICHED: dict[str, Told] = {
    **KEYS,
    "query_pre_attn_scalar": query_scalar,
    "sliding_window": "block.mixer.window",
    "layer_types": attended,
    "attn_logit_softcapping": "block.mixer.softcap",
    "final_logit_softcapping": "head.softcap",
}

GEMMA2 = Family(
    model_types=("gemma2",),
    architecture="Gemma2ForCausalLM",
    model=model,
    weights=weights,
    config=spelled(SANDWICHED, rotary()),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)

VAULTGEMMA = Family(
    model_types=("vaultgemma",),
    architecture="VaultGemmaForCausalLM",
    model=vault,
    weights=weights,
    config=spelled(SANDWICHED, rotary()),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
