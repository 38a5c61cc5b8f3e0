"""Qwen 3.5 without its vision tower: Qwen3-Next with unpacked projections, dense or with experts.

The text model of `Qwen3_5ForConditionalGeneration`: of its rotary positions for time, height and
width (M-RoPE), a text has all three alike, which is plain RoPE. Defaults are those of
`Qwen3_5TextConfig` and `Qwen3_5MoeTextConfig`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import PathOrFn, config_writer
from ..layer_types import FULL, patterned
from ..rope import rotary, text_positions
from ..rows import BLOCK, Row, rows
from ..transforms import Split
from .llama import GATED, HF_BLOCK, LLAMA, glu
from .qwen2_moe import ffn_rows, mixture, shared
from .qwen3_next import (
    HYBRID_KEYS,
    LINEAR,
    OFFSET,
    SPARE,
    attention_layers,
    delta,
    delta_core_rows,
    delta_widths,
    gated_attention,
    mixer_types,
)


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a Qwen3_5TextConfig."""
    return hybrid(config, glu(config))


def sparse_model(config: HfConfig) -> Table:
    """Return the `[model]` table of a Qwen3_5MoeTextConfig, which has experts in every layer."""
    return hybrid(config, mixture(config, normalize=True) | shared(config))


def hybrid(config: HfConfig, ffn: Table) -> Table:
    """Return a table whose layers are Gated DeltaNet or gated attention, each before `ffn`."""
    text_positions(config)
    table = gated_attention(config, gated=False)
    table["block"]["ffn"] = ffn
    return patterned(table, mixer_types(config), {FULL: {}, LINEAR: {"mixer": delta(config)}})


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a dense model."""
    return [*mixer_rows(config), *GATED]


def sparse_weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a model with experts."""
    return [*mixer_rows(config), *ffn_rows(config)]


def mixer_rows(config: HfConfig) -> list[Row]:
    """Return all rows but those of the feed-forward networks."""
    ours, theirs = f"{BLOCK}.mixer", f"{HF_BLOCK}.linear_attn"
    qkv = (f"{ours}.q", f"{ours}.k", f"{ours}.v")
    return [
        *attention_layers(config),
        Row(qkv, f"{theirs}.in_proj_qkv", Split(delta_widths(config))),
        *rows(f"{ours}.{{out.g,beta,a}}", f"{theirs}.in_proj_{{z,b,a}}"),
        *delta_core_rows(config),
    ]


SPARSE_KEYS: dict[str, PathOrFn] = {
    **{key: path for key, path in HYBRID_KEYS.items() if key != "intermediate_size"},
    "num_experts": "block.ffn.n_experts",
    "num_experts_per_tok": "block.ffn.router.top_k",
    "router_aux_loss_coef": "block.ffn.router.balance_loss",
    "moe_intermediate_size": "block.ffn.expert.hidden_dim",
    "shared_expert_intermediate_size": "block.ffn.shared.hidden_dim",
}
POSITIONS = rotary(fraction_key="partial_rotary_factor")

QWEN3_5 = Family(
    model_types=("qwen3_5_text",),
    architecture="Qwen3_5ForCausalLM",
    model=model,
    weights=weights,
    config=config_writer(HYBRID_KEYS, POSITIONS),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
    spare=SPARE,
    offset=OFFSET,
)

QWEN3_5_MOE = Family(
    model_types=("qwen3_5_moe_text",),
    architecture="Qwen3_5MoeForCausalLM",
    model=sparse_model,
    weights=sparse_weights,
    config=config_writer(SPARSE_KEYS, POSITIONS),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
    spare=SPARE,
    offset=OFFSET,
)
