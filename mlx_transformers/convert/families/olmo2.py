"""OLMo 2: norms behind attention and ffn, queries and keys normed over all heads.

OLMo 3 has a window in three layers of four, and stretches only the fourth. Defaults are those of
`Olmo2Config` and `Olmo3Config`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..pattern import FULL, SLIDING, attended, layer_types, patterned
from ..rope import rope_of_layer, rotary, rotary_by_layer
from ..view import spelled
from ..weights import Row
from .llama import ATTENTION, BIASED, BLOCK, ENDS, GATED, HF_BLOCK, LLAMA, decoder

THETA3 = 500000.0


def model(config: HfConfig, theta: float = 10000.0) -> Table:
    """The `[model]` table of an Olmo2Config; `theta` is the default base of the positions."""
    bias = config.get("attention_bias", False)
    table = decoder(config, bias=bias, vocab_size=50304, rms_norm_eps=1e-5, rope_theta=theta)
    table["block"]["placement"] = "reordered"
    table["block"]["mixer"] |= {"qk_norm": table["norm"], "qk_norm_over": "width"}
    return table


def model3(config: HfConfig) -> Table:
    """The `[model]` table of an Olmo3Config."""
    table = model(config, THETA3)
    table["position"] = rope_of_layer(config, FULL, theta=THETA3)
    # their reader takes the older dialect's base for the layers without a window alone
    local = rope_of_layer(config, SLIDING, theta=THETA3, theta_key=None)
    types = layer_types(config, lambda i: SLIDING if (i + 1) % 4 else FULL)
    sliding = {"mixer": {"window": config.get("sliding_window", 4096)}, "position": local}
    return patterned(table, types, {FULL: {}, SLIDING: sliding})


def weights(config: HfConfig) -> list[Row]:
    """The weight map of an OLMo 2 or 3."""
    return [
        *ENDS,
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
    config=spelled(BIASED, rotary()),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)

OLMO3 = Family(
    model_types=("olmo3",),
    architecture="Olmo3ForCausalLM",
    model=model3,
    weights=weights,
    config=spelled(
        {**BIASED, "sliding_window": "block.mixer.window", "layer_types": attended},
        rotary_by_layer("rope_theta"),
    ),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
