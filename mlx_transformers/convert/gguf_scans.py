"""Mamba and Mamba-2 as llama.cpp has them.

Names and layouts: llama.cpp, `conversion/mamba.py` and `src/models/mamba2.cpp`.
"""

from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from .config import HfConfig
from .families.mamba import MAMBA
from .families.mamba2 import MAMBA2
from .gguf_architecture import Architecture
from .gguf_weights import THEIRS, ends
from .rows import BLOCK, Row, rows
from .transforms import Arrays, Chain, Reshape

STATE_KEYS = {
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "attention.layer_norm_rms_epsilon": "layer_norm_epsilon",
    "ssm.conv_kernel": "conv_kernel",
    "ssm.state_size": "state_size",
    "vocab_size": "vocab_size",
}
"""Of state spaces."""
MAMBA_KEYS = STATE_KEYS | {"ssm.time_step_rank": "time_step_rank"}
MAMBA2_KEYS = STATE_KEYS | {"ssm.time_step_rank": "num_heads", "ssm.group_count": "n_groups"}

NO_ATTENTION: dict[str, Any] = {"attention.head_count": 0, "feed_forward_length": 0}
"""Keys that llama.cpp asks for where blocks are a mixer alone."""


@dataclass(frozen=True)
class MinusExp:
    """The decay of a state space: `A = -exp(A_log)` on their side, `A_log` on ours.

    Unlike other transforms it is exact up to rounding alone.
    """

    def load(self, theirs: Arrays) -> Arrays:
        return [mx.log(-x) for x in theirs]

    def save(self, ours: Arrays) -> Arrays:
        return [-mx.exp(x) for x in ours]


def mamba_weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a "mamba"."""
    ours = f"{BLOCK}.mixer"
    return [
        *_shared(ours),
        Row(f"{ours}.A_log", f"{THEIRS}.ssm_a", MinusExp()),
        Row(f"{ours}.D", f"{THEIRS}.ssm_d"),
        *rows(f"{ours}.{{selection,dt}}", f"{THEIRS}.ssm_{{x,dt}}"),
    ]


def mamba2_weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a "mamba2", whose decays are columns and whose norm has a row for
    each group."""
    ours, heads, groups = f"{BLOCK}.mixer", config.get("num_heads"), config.get("n_groups")
    width = heads * config.get("head_dim")
    column = Reshape((heads, 1), (heads,))
    return [
        *_shared(ours),
        Row(f"{ours}.A_log", f"{THEIRS}.ssm_a", Chain(column, MinusExp())),
        Row(f"{ours}.D", f"{THEIRS}.ssm_d", column),
        Row(f"{ours}.norm", f"{THEIRS}.ssm_norm", Reshape((groups, width // groups), (width,))),
    ]


def _shared(ours: str) -> list[Row]:
    """Return the rows that both architectures have."""
    return [
        *ends(),
        Row(f"{BLOCK}.mixer_residual.pre", f"{THEIRS}.attn_norm"),
        *rows(f"{ours}.{{inputs,conv,o}}", f"{THEIRS}.ssm_{{in,conv1d,out}}"),
        Row(f"{ours}.dt_bias", f"{THEIRS}.ssm_dt.bias"),
    ]


def scan_width(config: HfConfig) -> int:
    """Return the width of a state space, which is twice that of the model."""
    return 2 * int(config.get("hidden_size"))


def scan_head_width(config: HfConfig) -> int:
    """Return the width of a head of Mamba-2."""
    return scan_width(config) // int(config.get("num_heads"))


SCANS = {
    "mamba": Architecture(
        {"mamba": MAMBA},
        mamba_weights,
        keys=MAMBA_KEYS,
        positions=None,
        fixed={"use_bias": False, "use_conv_bias": True, "intermediate_size": scan_width},
        constants=NO_ATTENTION | {"ssm.inner_size": scan_width, "ssm.dt_b_c_rms": False},
    ),
    "mamba2": Architecture(
        {"mamba2": MAMBA2},
        mamba2_weights,
        keys=MAMBA2_KEYS,
        positions=None,
        fixed={
            "use_bias": False,
            "use_conv_bias": True,
            "expand": 2,
            "head_dim": scan_head_width,
            "time_step_limit": None,
        },
        constants=NO_ATTENTION | {"ssm.inner_size": scan_width},
    ),
}
"""By llama.cpp's name."""
