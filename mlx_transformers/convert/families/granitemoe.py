"""Granite MoE: Granite with experts, all of a layer in two tensors, and perhaps a shared network.

Defaults are those of `GraniteMoeConfig` and `GraniteMoeSharedConfig`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..rope import rotary
from ..transforms import Split
from ..view import View, spelled
from ..weights import Row
from .granite import MULTIPLIED, multiplied
from .llama import BLOCK, HF_BLOCK, LLAMA, around, decoder, glu
from .mixtral import ROUTED


def model(config: HfConfig) -> Table:
    """The `[model]` table of a GraniteMoeConfig or a GraniteMoeSharedConfig."""
    table = multiplied(config, decoder(config, bias=config.get("attention_bias", False)))
    router = {
        "kind": "top_k",
        "top_k": config.get("num_experts_per_tok", 2),
        "normalize": True,
        "balance_loss": config.get("router_aux_loss_coef", 0.001),
    }
    moe = {
        "kind": "moe",
        "n_experts": config.get("num_local_experts", 8),
        "router": router,
        "expert": glu(config),
    }
    if config.model_type == "granitemoeshared" and config.get("shared_intermediate_size", 0):
        moe["shared"] = glu(config, "shared_intermediate_size")
    table["block"]["ffn"] = moe
    return table


def weights(config: HfConfig) -> list[Row]:
    """The weight map of a Granite MoE."""
    theirs = f"{HF_BLOCK}.block_sparse_moe"
    width = config.get("intermediate_size")
    rows = [
        *around(),
        Row(f"{BLOCK}.ffn.router.gate", f"{theirs}.router.layer"),
        Row(both("experts"), f"{theirs}.input_linear", Split((width, width), axis=1)),
        Row(f"{BLOCK}.ffn.experts.down", f"{theirs}.output_linear"),
    ]
    if not (shared := config.get("shared_intermediate_size", 0)):
        return rows
    return [
        *rows,
        Row(both("shared"), f"{HF_BLOCK}.shared_mlp.input_linear", Split((shared, shared))),
        Row(f"{BLOCK}.ffn.shared.down", f"{HF_BLOCK}.shared_mlp.output_linear"),
    ]


def both(part: str) -> tuple[str, ...]:
    """Our gate and value of the experts, or of what is shared."""
    return tuple(f"{BLOCK}.ffn.{part}.{name}" for name in ("gate", "up"))


def shared(view: View) -> Table:
    """The name of the family, which is another where there is a shared network."""
    if not view.has("block.ffn.shared"):
        return {}
    return {
        "model_type": "granitemoeshared",
        "architectures": ["GraniteMoeSharedForCausalLM"],
        "shared_intermediate_size": view.get("block.ffn.shared.hidden_dim"),
    }


GRANITEMOE = Family(
    model_types=("granitemoe", "granitemoeshared"),
    architecture="GraniteMoeForCausalLM",
    model=model,
    weights=weights,
    config=spelled({**MULTIPLIED, **ROUTED}, rotary(), shared),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
