"""GLM-4: half of each head turns, as neighbours; gate and value in one matrix.

GLM-4-0414 (`glm4`) also has norms behind attention and ffn. Defaults are those of `GlmConfig` and
`Glm4Config`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import config_writer
from ..rope import rotary
from ..rows import BLOCK, Row, rows
from ..transforms import Split
from .llama import ATTENTION, BIASED, HF_BLOCK, LLAMA, OUTER_ROWS, decoder, outer_rows


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a GlmConfig."""
    table = decoder(config, partial=True)
    table["block"]["mixer"]["bias"] = config.get("attention_bias")
    table["position"]["traditional"] = True
    return table


def model4(config: HfConfig) -> Table:
    """Return the `[model]` table of a Glm4Config."""
    table = model(config)
    table["block"]["placement"] = "sandwich"
    return table


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a GLM."""
    return [*outer_rows(), *packed(config)]


def weights4(config: HfConfig) -> list[Row]:
    """Return the weight map of a GLM-4-0414."""
    return [
        *OUTER_ROWS,
        *ATTENTION,
        *packed(config),
        Row(f"{BLOCK}.mixer_residual.pre", f"{HF_BLOCK}.input_layernorm"),
        Row(f"{BLOCK}.mixer_residual.post", f"{HF_BLOCK}.post_self_attn_layernorm"),
        Row(f"{BLOCK}.ffn_residual.pre", f"{HF_BLOCK}.post_attention_layernorm"),
        Row(f"{BLOCK}.ffn_residual.post", f"{HF_BLOCK}.post_mlp_layernorm"),
    ]


def packed(config: HfConfig) -> list[Row]:
    """Return the rows of a gated network whose gate and value are one tensor."""
    width = config.get("intermediate_size")
    ours = tuple(f"{BLOCK}.ffn.{name}" for name in ("gate", "up"))
    return [
        Row(ours, f"{HF_BLOCK}.mlp.gate_up_proj", Split((width, width))),
        *rows(f"{BLOCK}.ffn.down", f"{HF_BLOCK}.mlp.down_proj"),
    ]


config = config_writer(BIASED, rotary(fraction_key="partial_rotary_factor", traditional=True))
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
