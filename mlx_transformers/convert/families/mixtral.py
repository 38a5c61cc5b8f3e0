"""Mixtral: Mistral with experts. Defaults are those of `MixtralConfig`."""

from ..config import HfConfig
from ..family import Family, Table
from ..rope import rotary
from ..transforms import Stack
from ..view import Told, spelled
from ..weights import Row, rows
from .llama import BLOCK, HF_BLOCK, LLAMA, around, decoder
from .mistral import DEFAULTS, WINDOWED

HF_MOE = f"{HF_BLOCK}.block_sparse_moe"


def model(config: HfConfig) -> Table:
    """The `[model]` table of a MixtralConfig."""
    table = decoder(config, **{**DEFAULTS, "rms_norm_eps": 1e-5, "rope_theta": 1e6})
    config.ignore("router_jitter_noise")  # noise of training alone
    block = table["block"]
    if window := config.get("sliding_window", None):
        block["mixer"]["window"] = window
    router = {
        "kind": "top_k",
        "top_k": config.get("num_experts_per_tok", 2),
        "normalize": True,
        "balance_loss": config.get("router_aux_loss_coef", 0.001),
    }
    block["ffn"] = {
        "kind": "moe",
        "n_experts": config.get("num_local_experts", 8),
        "router": router,
        "expert": block["ffn"],
    }
    return table


def weights(config: HfConfig) -> list[Row]:
    """The weight map of a Mixtral: w1 is the gate, w3 what it gates, w2 the way down."""
    experts = config.get("num_local_experts", 8)
    ours, theirs = f"{BLOCK}.ffn.experts.{{gate,up,down}}", f"{HF_MOE}.experts.{{e}}.{{w1,w3,w2}}"
    return [
        *around(),
        Row(f"{BLOCK}.ffn.router.gate", f"{HF_MOE}.gate"),
        *rows(ours, theirs, Stack(), experts),
    ]


EXPERTS: dict[str, Told] = {
    "intermediate_size": "block.ffn.expert.hidden_dim",
    "num_local_experts": "block.ffn.n_experts",
    "num_experts_per_tok": "block.ffn.router.top_k",
}
ROUTED: dict[str, Told] = {**EXPERTS, "router_aux_loss_coef": "block.ffn.router.balance_loss"}
"""Where the values of keys stand that several families of experts share."""

MIXTRAL = Family(
    model_types=("mixtral",),
    architecture="MixtralForCausalLM",
    model=model,
    weights=weights,
    config=spelled({**WINDOWED, **ROUTED}, rotary()),
    renames=(
        *LLAMA.renames,
        (r"\.mlp\.(gate|experts)\.", r".block_sparse_moe.\1."),
    ),
    tied=LLAMA.tied,
)
