"""Granite MoE: Granite with experts, all of a layer in two tensors, and perhaps a shared network.

Defaults are those of `GraniteMoeConfig` and `GraniteMoeSharedConfig`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import FlatModel, config_writer
from ..rope import rotary
from ..rows import BLOCK, Row
from ..transforms import Split
from .granite import MULTIPLIED, multiplied
from .llama import HF_BLOCK, LLAMA, decoder, glu, outer_rows
from .mixtral import ROUTED


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a GraniteMoeConfig or a GraniteMoeSharedConfig."""
    table = multiplied(config, decoder(config, bias=config.get("attention_bias")))
    moe = mixture(config)
    if config.model_type == "granitemoeshared" and config.get("shared_intermediate_size"):
        moe["shared"] = glu(config, "shared_intermediate_size")
    table["block"]["ffn"] = moe
    return table


def mixture(config: HfConfig) -> Table:
    """Return the experts of a config."""
    router = {
        "kind": "top_k",
        "top_k": config.get("num_experts_per_tok"),
        "normalize": True,
        "balance_loss": config.get("router_aux_loss_coef"),
    }
    return {
        "kind": "moe",
        "n_experts": config.get("num_local_experts"),
        "router": router,
        "expert": glu(config),
    }


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a Granite MoE."""
    return [*outer_rows(), *mixture_rows(config)]


def mixture_rows(config: HfConfig) -> list[Row]:
    """Return the rows of experts, and of the network that all tokens share if there is one."""
    theirs = f"{HF_BLOCK}.block_sparse_moe"
    width = config.get("intermediate_size")
    rows = [
        Row(f"{BLOCK}.ffn.router.gate", f"{theirs}.router.layer"),
        Row(both("experts."), f"{theirs}.input_linear", Split((width, width), axis=1)),
        Row(f"{BLOCK}.ffn.experts.down", f"{theirs}.output_linear"),
    ]
    if not (shared := config.optional("shared_intermediate_size")):
        return rows
    return [*rows, *shared_rows("shared.", shared)]


def shared_rows(part: str, width: int) -> list[Row]:
    """Return the rows of the network that all tokens share, `part` of ours."""
    theirs = f"{HF_BLOCK}.shared_mlp"
    return [
        Row(both(part), f"{theirs}.input_linear", Split((width, width))),
        Row(f"{BLOCK}.ffn.{part}down", f"{theirs}.output_linear"),
    ]


def both(part: str) -> tuple[str, ...]:
    """Return our names of gate and value of a part of the ffn."""
    return tuple(f"{BLOCK}.ffn.{part}{name}" for name in ("gate", "up"))


def shared(view: FlatModel) -> Table:
    """Return the family's name, which differs if there is a shared network."""
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
    config=config_writer({**MULTIPLIED, **ROUTED}, rotary(), shared),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
