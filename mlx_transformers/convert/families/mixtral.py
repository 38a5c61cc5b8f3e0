"""Mixtral: Mistral with experts. Defaults are those of `MixtralConfig`."""

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import PathOrFn, config_writer
from ..rope import rotary
from ..rows import BLOCK, Row, rows
from ..transforms import Stack
from .llama import HF_BLOCK, LLAMA, decoder, outer_rows
from .mistral import WINDOWED

HF_MOE = f"{HF_BLOCK}.block_sparse_moe"


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a MixtralConfig."""
    table = decoder(config)
    config.ignore("router_jitter_noise")  # noise of training alone
    block = table["block"]
    if window := config.get("sliding_window"):
        block["mixer"]["window"] = window
    router = {
        "kind": "top_k",
        "top_k": config.get("num_experts_per_tok"),
        "normalize": True,
        "balance_loss": config.get("router_aux_loss_coef"),
    }
    block["ffn"] = {
        "kind": "moe",
        "n_experts": config.get("num_local_experts"),
        "router": router,
        "expert": block["ffn"],
    }
    return table


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a Mixtral: w1 is the gate, w3 what it gates, w2 the way down."""
    experts = config.get("num_local_experts")
    ours, theirs = f"{BLOCK}.ffn.experts.{{gate,up,down}}", f"{HF_MOE}.experts.{{e}}.{{w1,w3,w2}}"
    return [
        *outer_rows(),
        Row(f"{BLOCK}.ffn.router.gate", f"{HF_MOE}.gate"),
        *rows(ours, theirs, Stack(), experts),
    ]


def numbered(module: str) -> tuple[tuple[str, str], ...]:
    """Return renames of the names that mlx-lm gives w1, w2 and w3 below a module, a regular
    expression."""
    names = {"gate_proj": "w1", "down_proj": "w2", "up_proj": "w3"}
    return tuple(
        (rf"(\.{module})\.{name}\.", rf"\1.{published}.") for name, published in names.items()
    )


EXPERTS: dict[str, PathOrFn] = {
    "intermediate_size": "block.ffn.expert.hidden_dim",
    "num_local_experts": "block.ffn.n_experts",
    "num_experts_per_tok": "block.ffn.router.top_k",
}
ROUTED: dict[str, PathOrFn] = {**EXPERTS, "router_aux_loss_coef": "block.ffn.router.balance_loss"}
"""Recipe paths of the keys that several families of experts share."""

MIXTRAL = Family(
    model_types=("mixtral",),
    architecture="MixtralForCausalLM",
    model=model,
    weights=weights,
    config=config_writer({**WINDOWED, **ROUTED}, rotary()),
    renames=(
        *LLAMA.renames,
        (r"\.mlp\.(gate|experts)\.", r".block_sparse_moe.\1."),
        *numbered(r"block_sparse_moe\.experts\.\d+"),
    ),
    tied=LLAMA.tied,
)
