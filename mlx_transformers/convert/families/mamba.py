"""Mamba and Falcon-Mamba: blocks of a selective state space alone.

Defaults are those of `MambaConfig` and `FalconMambaConfig`.
"""

import math
from typing import Any

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import MISSING, FlatModel, PathOrFn, activation, config_writer
from ..kernels import Depthwise
from ..rows import BLOCK, Row, rows

HF_BLOCK = "backbone.layers.{i}"
CONTEXT = 2048
"""Context that the models were trained on; their configs have none."""


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a MambaConfig or a FalconMambaConfig."""
    mixer: Table = {
        "kind": "mamba",
        "inner_dim": config.optional("intermediate_size") or scan_width(config),
        "state_dim": config.get("state_size"),
        "conv_width": config.get("conv_kernel"),
        "dt_rank": step_rank(config, "time_step_rank"),
        "activation": convolved(config),
        "bias": config.get("use_bias"),
        "out_bias": config.get("use_bias"),
        "conv_bias": config.get("use_conv_bias"),
        **step_sizes(config),
    }
    if config.model_type == "falcon_mamba":
        eps = config.get("mixer_rms_eps")
        mixer["norm"] = {"kind": "rms_norm", "eps": eps, "weight": False}
    return bare(config, mixer)


def convolved(config: HfConfig) -> str:
    """Return the activation of the convolutions: SiLU, as that of their gates always is.

    Raises:
        ConvertError: it is another.
    """
    config.expect("hidden_act", "silu")
    return "silu"


def bare(config: HfConfig, mixer: Table) -> Table:
    """Return the table of a decoder whose blocks are a mixer alone."""
    config.ignore("residual_in_fp32", "rescale_prenorm_residual", "expand")
    config.ignore("use_mambapy", "use_falcon_mambapy", "use_associative_scan")
    config.ignore("time_step_scale", "time_step_init_scheme")  # of the start alone
    norm = {"kind": "rms_norm", "eps": config.get("layer_norm_epsilon")}
    return {
        "kind": "decoder",
        "dim": config.get("hidden_size"),
        "n_layers": config.get("num_hidden_layers"),
        "max_seq_len": config.optional("max_position_embeddings") or CONTEXT,
        "vocab_size": config.get("vocab_size"),
        "embed": {"kind": "token"},
        "position": {"kind": "none"},
        "block": {"placement": "pre", "norm": norm, "mixer": mixer},
        "norm": norm,
        "head": {"kind": "lm", "tied": config.get("tie_word_embeddings")},
        "init": {"kind": "normal", "std": config.get("initializer_range")},
    }


def scan_width(config: HfConfig, key: str = "expand") -> int:
    """Return the width of the scan from its ratio to the width of the model."""
    return int(config.get(key) * config.get("hidden_size"))


def step_sizes(config: HfConfig) -> Table:
    """Return the range of step sizes at the start."""
    return {
        "dt_min": config.get("time_step_min"),
        "dt_max": config.get("time_step_max"),
        "dt_floor": config.get("time_step_floor"),
    }


def step_rank(config: HfConfig, key: str) -> int:
    """Return the rank of the step sizes."""
    rank = config.get(key)
    if rank == "auto":
        size: int = config.get("hidden_size")
        return math.ceil(size / 16)
    return int(rank)


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a Mamba."""
    return [*OUTER_ROWS, *scan_rows(f"{BLOCK}.mixer", f"{HF_BLOCK}.mixer")]


OUTER_ROWS = [
    Row("embed.table", "backbone.embeddings"),
    Row("norm", "backbone.norm_f"),
    Row("head", "lm_head"),
    Row(f"{BLOCK}.mixer_residual.pre", f"{HF_BLOCK}.norm"),
]


def scan_rows(ours: str, theirs: str) -> list[Row]:
    """Return the rows of Mamba's mixer."""
    return [
        *rows(f"{ours}.{{A_log,D}}", f"{theirs}.{{A_log,D}}"),
        *rows(f"{ours}.{{inputs,selection,dt,o}}", f"{theirs}.{{in,x,dt,out}}_proj"),
        *rows(f"{ours}.{{dt,B,C}}_norm", f"{theirs}.{{dt,b,c}}_layernorm"),
        Row(f"{ours}.dt_bias", f"{theirs}.dt_proj.bias"),
        Row(f"{ours}.conv", f"{theirs}.conv1d", Depthwise()),
    ]


def expand(view: FlatModel) -> Any:
    """Return the width of the scan in widths of the model."""
    return whole(view.number("block.mixer.inner_dim") / view.number("dim"))


def whole(ratio: float) -> Any:
    """Return a ratio of widths if it is a whole number, since their key holds no others."""
    return int(ratio) if ratio == int(ratio) else MISSING


STEPS: dict[str, PathOrFn] = {
    "time_step_min": "block.mixer.dt_min",
    "time_step_max": "block.mixer.dt_max",
    "time_step_floor": "block.mixer.dt_floor",
}
BARE_KEYS: dict[str, PathOrFn] = {
    "vocab_size": "vocab_size",
    "hidden_size": "dim",
    "num_hidden_layers": "n_layers",
    "max_position_embeddings": "max_seq_len",
    "layer_norm_epsilon": "norm.eps",
    "expand": expand,
    "state_size": "block.mixer.state_dim",
    "conv_kernel": "block.mixer.conv_width",
    "hidden_act": activation("block.mixer.activation"),
    "use_bias": "block.mixer.bias",
    "use_conv_bias": "block.mixer.conv_bias",
    "initializer_range": "init.std",
    "tie_word_embeddings": "head.tied",
    **STEPS,
}
"""Keys that Mamba's configs share, and where our values stand."""

KEYS: dict[str, PathOrFn] = {
    **BARE_KEYS,
    "time_step_rank": "block.mixer.dt_rank",
    "intermediate_size": "block.mixer.inner_dim",
}


def normed(view: FlatModel) -> Table:
    """Return the keys of Falcon-Mamba, whose step sizes, B and C are normalised."""
    if not view.has("block.mixer.norm"):
        return {}
    return {
        "model_type": "falcon_mamba",
        "architectures": ["FalconMambaForCausalLM"],
        "mixer_rms_eps": view.get("block.mixer.norm.eps"),
    }


MAMBA = Family(
    model_types=("mamba", "falcon_mamba"),
    architecture="MambaForCausalLM",
    model=model,
    weights=weights,
    config=config_writer(KEYS, normed),
    renames=(
        (r"^(?!backbone\.|lm_head\.)", "backbone."),
        (r"^backbone\.embedding\.", "backbone.embeddings."),
    ),
    tied=(("lm_head.weight", "backbone.embeddings.weight"),),
)
