"""Qwen 2 MoE and Qwen 3 MoE: experts in some layers; Qwen 2 shares a gated network among all.

Defaults are those of `Qwen2MoeConfig` and `Qwen3MoeConfig`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import FlatModel, PathOrFn, config_writer, present
from ..layer_types import FULL, SLIDING, layer_types, patterned
from ..rope import rotary
from ..rows import BLOCK, Row, rows
from ..transforms import Stack
from .llama import BIASED, GATED, HF_BLOCK, KEYS, LLAMA, decoder, glu, outer_rows
from .qwen2 import windows


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a Qwen2MoeConfig."""
    table = decoder(config)
    table["block"]["mixer"]["bias"] = config.get("qkv_bias")
    sparse = mixture(config) | shared(config)
    size, used = config.get("sliding_window"), config.get("use_sliding_window")
    last, window = config.get("max_window_layers"), size if used else None
    types = layer_types(config, lambda i: SLIDING if used and i % 2 == 0 and i < last else FULL)
    return mixed(config, table, sparse, types, window)


def model3(config: HfConfig) -> Table:
    """Return the `[model]` table of a Qwen3MoeConfig."""
    table = decoder(config, bias=config.get("attention_bias"))
    table["block"]["mixer"]["qk_norm"] = table["norm"]
    size, used = config.get("sliding_window"), config.get("use_sliding_window")
    config.ignore("max_window_layers")
    count = config.get("num_hidden_layers")
    types = [SLIDING if used else FULL] * count
    return mixed(config, table, mixture(config), types, size if used else None)


def mixture(
    config: HfConfig, width: str = "moe_intermediate_size", normalize: bool | None = None
) -> Table:
    """Return the experts of a config.

    Args:
        config: the config.
        width: the key of the experts' width.
        normalize: whether gates sum to 1, in a family that has no key for it.
    """
    router = {
        "kind": "top_k",
        "top_k": config.get("num_experts_per_tok"),
        "normalize": config.get("norm_topk_prob") if normalize is None else normalize,
        "balance_loss": config.get("router_aux_loss_coef"),
    }
    return {
        "kind": "moe",
        "n_experts": config.get("num_experts"),
        "router": router,
        "expert": glu(config, width),
    }


def shared(config: HfConfig) -> Table:
    """Return the gated network that all tokens share, beside the experts of `mixture`."""
    return {"shared": glu(config, "shared_expert_intermediate_size"), "shared_gate": True}


def mixed(
    config: HfConfig, table: Table, sparse: Table, types: list[str], window: int | None
) -> Table:
    """Return a table whose layers have experts or one network, a window or none."""
    every, dense = config.get("decoder_sparse_step"), config.get("mlp_only_layers") or []
    names = [
        f"{'sliding' if kind == SLIDING else 'full'}_"
        + ("sparse" if i not in dense and (i + 1) % every == 0 else "dense")
        for i, kind in enumerate(types)
    ]
    mixers = {"full": {}, "sliding": {"mixer": {"window": window}} if window else {}}
    ffns = {"dense": {}, "sparse": {"ffn": sparse}}
    variants = {f"{m}_{f}": mixers[m] | ffns[f] for m in mixers for f in ffns}
    return patterned(table, names, variants)


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a Qwen MoE."""
    return [*outer_rows(), *ffn_rows(config)]


def ffn_rows(config: HfConfig) -> list[Row]:
    """Return the rows of networks, of experts, and of the one that all tokens share."""
    shared = f"{HF_BLOCK}.mlp.shared_expert.{{gate,up,down}}_proj"
    return [
        *GATED,
        *experts(config.get("num_experts")),
        *rows(f"{BLOCK}.ffn.shared.{{gate,up,down}}", shared),
        Row(f"{BLOCK}.ffn.shared_gate", f"{HF_BLOCK}.mlp.shared_expert_gate"),
    ]


def experts(count: int) -> list[Row]:
    """Return the rows of experts that are numbered modules beside a router called `gate`."""
    theirs = f"{HF_BLOCK}.mlp.experts.{{e}}.{{gate,up,down}}_proj"
    return [
        Row(f"{BLOCK}.ffn.router.gate", f"{HF_BLOCK}.mlp.gate"),
        *rows(f"{BLOCK}.ffn.experts.{{gate,up,down}}", theirs, Stack(), count),
    ]


CHOSEN: dict[str, PathOrFn] = {
    "num_experts": "block.ffn.n_experts",
    "num_experts_per_tok": "block.ffn.router.top_k",
    "norm_topk_prob": "block.ffn.router.normalize",
    "router_aux_loss_coef": "block.ffn.router.balance_loss",
}
"""Recipe paths of the keys of experts."""


def dense_layers(view: FlatModel) -> list[int]:
    """Return the layers with one network instead of experts."""
    return [i for i, layer in enumerate(view.layers) if layer["ffn"]["kind"] != "moe"]


ROUTED: dict[str, PathOrFn] = {
    **CHOSEN,
    "moe_intermediate_size": "block.ffn.expert.hidden_dim",
    "mlp_only_layers": dense_layers,
}

QWEN2_MOE = Family(
    model_types=("qwen2_moe",),
    architecture="Qwen2MoeForCausalLM",
    model=model,
    weights=weights,
    config=config_writer(
        {
            **KEYS,
            **ROUTED,
            "qkv_bias": "block.mixer.bias",
            "shared_expert_intermediate_size": "block.ffn.shared.hidden_dim",
        },
        rotary(),
        windows,
        decoder_sparse_step=1,
    ),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)

QWEN3_MOE = Family(
    model_types=("qwen3_moe",),
    architecture="Qwen3MoeForCausalLM",
    model=model3,
    weights=weights,
    config=config_writer(
        {
            **BIASED,
            **ROUTED,
            "use_sliding_window": present("block.mixer.window"),
            "sliding_window": "block.mixer.window",
        },
        rotary(),
        decoder_sparse_step=1,
    ),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
