"""Bamba: Mamba-2's blocks and a few that attend. Defaults are those of `BambaConfig`."""

from collections.abc import Callable
from typing import Any

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import MISSING, FlatModel, PathOrFn, config_writer
from ..layer_types import patterned
from ..rope import rotary
from ..rows import BLOCK, Row, at_layers
from .jamba import HYBRID_ROWS, layers_where
from .llama import ATTENTION, HF_BLOCK, KEYS, LLAMA, decoder
from .mamba import scan_width, whole
from .mamba2 import limited, limits, ssd_rows, value_of


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a BambaConfig."""
    config.ignore("num_logits_to_keep", "z_loss_coefficient", "mamba_chunk_size")
    config.ignore("layers_block_type", "layer_types")
    table = decoder(config, bias=config.get("attention_bias"), partial=True)
    mixer = ssd(config, scan_width(config, "mamba_expand"))
    mixer |= {
        "norm_groups": config.get("mamba_n_groups"),
        "eps": config.get("rms_norm_eps"),
        "out_bias": config.get("mamba_proj_bias"),
    }
    attend = config.get("attn_layer_indices") or []
    count = config.get("num_hidden_layers")
    names = ["attention" if i in attend else "mamba" for i in range(count)]
    return patterned(table, names, {"attention": {}, "mamba": {"mixer": mixer}})


def ssd(config: HfConfig, width: int) -> Table:
    """Return the mixer of a config whose keys begin with `mamba_`."""
    config.expect("hidden_act", "silu")
    heads, size = config.get("mamba_n_heads"), config.get("mamba_d_head")
    return {
        "kind": "mamba2",
        "inner_dim": width,
        "head_dim": width // heads if size == "auto" else size,
        "state_dim": config.get("mamba_d_state"),
        "n_groups": config.get("mamba_n_groups"),
        "conv_width": config.get("mamba_d_conv"),
        "bias": config.get("mamba_proj_bias"),
        "conv_bias": config.get("mamba_conv_bias"),
        **limits(config),
    }


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a Bamba."""
    return [
        *HYBRID_ROWS,
        *at_layers(ATTENTION, config.get("attn_layer_indices") or []),
        *ssd_rows(f"{BLOCK}.mixer", f"{HF_BLOCK}.mamba"),
    ]


def of(kind: str, key: str) -> Callable[[FlatModel], Any]:
    """Return a reader of a key of the mixers of a kind."""
    return lambda view: value_of(view, kind, key)


def scan_ratio(view: FlatModel) -> Any:
    """Return the width of the scan in widths of the model."""
    return whole(value_of(view, "mamba2", "inner_dim") / view.number("dim"))


def scan_heads(view: FlatModel) -> Any:
    """Return the heads of the scan, if there is one."""
    width, head = (value_of(view, "mamba2", key) for key in ("inner_dim", "head_dim"))
    return MISSING if width is MISSING else int(width // head)


SCAN_KEYS: dict[str, Callable[[FlatModel], Any]] = {
    "mamba_n_heads": scan_heads,
    "mamba_d_head": of("mamba2", "head_dim"),
    "mamba_d_state": of("mamba2", "state_dim"),
    "mamba_n_groups": of("mamba2", "n_groups"),
    "mamba_d_conv": of("mamba2", "conv_width"),
    "mamba_conv_bias": of("mamba2", "conv_bias"),
    "mamba_proj_bias": of("mamba2", "bias"),
    "time_step_limit": limited("mamba2"),
}
"""Keys of Mamba-2 that Bamba, Falcon-H1 and Granite 4 share, and readers of their values."""
MAMBA_KEYS: dict[str, PathOrFn] = {
    **SCAN_KEYS,
    "attention_bias": of("attention", "bias"),
    "head_dim": of("attention", "head_dim"),
    "mlp_bias": "block.ffn.bias",
}
"""Keys that Bamba and Falcon-H1 share, and where our values stand."""


BAMBA = Family(
    model_types=("bamba",),
    architecture="BambaForCausalLM",
    model=model,
    weights=weights,
    config=config_writer(
        {
            **KEYS,
            **MAMBA_KEYS,
            "mamba_expand": scan_ratio,
            "attn_layer_indices": lambda view: layers_where(view, "mixer", "attention"),
        },
        rotary(fraction_key="partial_rotary_factor"),
    ),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
