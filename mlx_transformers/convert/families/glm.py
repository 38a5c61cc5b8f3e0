"""GLM-4: half of each head turns, as neighbours; gate and value in one matrix.

GLM-4-0414 (`glm4`) also has norms behind attention and ffn. Defaults are those of `GlmConfig` and
`Glm4Config`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..rope import rotary
from ..transforms import Split
from ..view import spelled
from ..weights import Row, rows
from .llama import ATTENTION, BIASED, BLOCK, ENDS, HF_BLOCK, LLAMA, around, decoder

DEFAULTS: Table = {
    "vocab_size": 151552,
    "intermediate_size": 13696,
    "num_hidden_layers": 40,
    "num_key_value_heads": 2,
    "head_dim": 128,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1.5625e-07,
}


def model(config: HfConfig) -> Table:
    """The `[model]` table of a GlmConfig."""
    table = decoder(config, fraction=0.5, **DEFAULTS)
    table["block"]["mixer"]["bias"] = config.get("attention_bias", True)
    table["position"]["traditional"] = True
    return table


def model4(config: HfConfig) -> Table:
    """The `[model]` table of a Glm4Config."""
    table = model(config)
    table["block"]["placement"] = "sandwich"
    return table


def weights(config: HfConfig) -> list[Row]:
    """The weight map of a GLM."""
    return [*around(), *packed(config)]


def weights4(config: HfConfig) -> list[Row]:
    """The weight map of a GLM-4-0414."""
    return [
        *ENDS,
        *ATTENTION,
        *packed(config),
        Row(f"{BLOCK}.mixer_residual.pre", f"{HF_BLOCK}.input_layernorm"),
        Row(f"{BLOCK}.mixer_residual.post", f"{HF_BLOCK}.post_self_attn_layernorm"),
        Row(f"{BLOCK}.ffn_residual.pre", f"{HF_BLOCK}.post_attention_layernorm"),
        Row(f"{BLOCK}.ffn_residual.post", f"{HF_BLOCK}.post_mlp_layernorm"),
    ]


def packed(config: HfConfig) -> list[Row]:
    """Rows of a gated network whose gate and value are one tensor."""
    width = config.get("intermediate_size")
    ours = tuple(f"{BLOCK}.ffn.{name}" for name in ("gate", "up"))
    return [
        Row(ours, f"{HF_BLOCK}.mlp.gate_up_proj", Split((width, width))),
        *rows(f"{BLOCK}.ffn.down", f"{HF_BLOCK}.mlp.down_proj"),
    ]


config = spelled(BIASED, rotary(fraction_key="partial_rotary_factor", traditional=True))
"""The GlmConfig of a model."""

GLM = Family(
    model_types=("glm",),
    architecture="GlmForCausalLM",
    model=model,
    weights=weights,
    config=config,
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)

GLM4 = Family(
    model_types=("glm4",),
    architecture="Glm4ForCausalLM",
    model=model4,
    weights=weights4,
    config=config,
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
