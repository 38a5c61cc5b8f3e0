"""OLMo 2: norms behind attention and ffn, queries and keys normed over all heads.

OLMo 3 has a window in three layers of four, and stretches only the fourth. Defaults are those of
`Olmo2Config` and `Olmo3Config`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import config_writer
from ..layer_types import FULL, SLIDING, layer_types, layer_types_of, patterned, window_of
from ..rope import rope_of_layer, rotary, rotary_by_layer
from ..rows import BLOCK, Row
from .llama import ATTENTION, BIASED, GATED, HF_BLOCK, LLAMA, OUTER_ROWS, decoder


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of an Olmo2Config."""
    bias = config.get("attention_bias")
    table = decoder(config, bias=bias)
    table["block"]["placement"] = "reordered"
    table["block"]["mixer"] |= {"qk_norm": table["norm"], "qk_norm_over": "width"}
    return table


def model3(config: HfConfig) -> Table:
    """Return the `[model]` table of an Olmo3Config."""
    table = model(config)
    table["position"] = rope_of_layer(config, FULL)
    # their reader takes the older dialect's base for the layers without a window alone
    local = rope_of_layer(config, SLIDING)
    types = layer_types(config, lambda i: SLIDING if (i + 1) % 4 else FULL)
    sliding = {"mixer": {"window": config.get("sliding_window")}, "position": local}
    return patterned(table, types, {FULL: {}, SLIDING: sliding})


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of an OLMo 2 or 3."""
    return [
        *OUTER_ROWS,
        *ATTENTION,
        *GATED,
        Row(f"{BLOCK}.mixer_residual.post", f"{HF_BLOCK}.post_attention_layernorm"),
        Row(f"{BLOCK}.ffn_residual.post", f"{HF_BLOCK}.post_feedforward_layernorm"),
    ]


OLMO2 = Family(
    model_types=("olmo2",),
    architecture="Olmo2ForCausalLM",
    model=model,
    weights=weights,
    config=config_writer(BIASED, rotary()),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)

OLMO3 = Family(
    model_types=("olmo3",),
    architecture="Olmo3ForCausalLM",
    model=model3,
    weights=weights,
    config=config_writer(
        {**BIASED, "sliding_window": window_of, "layer_types": layer_types_of},
        rotary_by_layer("rope_theta"),
    ),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
