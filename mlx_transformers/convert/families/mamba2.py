"""Mamba-2: blocks of a state space with one decay per head.

Defaults are those of `Mamba2Config`.
"""

from collections.abc import Callable
from typing import Any

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import MISSING, FlatModel, config_writer
from ..kernels import Depthwise
from ..rows import BLOCK, Row, rows
from .mamba import BARE_KEYS, HF_BLOCK, MAMBA, OUTER_ROWS, bare, scan_width, step_sizes


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a Mamba2Config."""
    config.ignore("chunk_size", "num_heads", "time_step_rank", "intermediate_size")
    config.expect("hidden_act", "silu")
    mixer = {
        "kind": "mamba2",
        "inner_dim": scan_width(config),
        "head_dim": config.get("head_dim"),
        "state_dim": config.get("state_size"),
        "n_groups": config.get("n_groups"),
        "norm_groups": config.get("n_groups"),
        "conv_width": config.get("conv_kernel"),
        "eps": config.get("layer_norm_epsilon"),
        "bias": config.get("use_bias"),
        "out_bias": config.get("use_bias"),
        "conv_bias": config.get("use_conv_bias"),
        **step_sizes(config),
        **limits(config),
    }
    return bare(config, mixer)


def limits(config: HfConfig) -> Table:
    """Return the least and largest step size, where a config has any."""
    low, high = config.get("time_step_limit") or (0.0, float("inf"))
    return {"dt_at_least": low} | ({} if high == float("inf") else {"dt_at_most": high})


def limited(kind: str) -> Callable[[FlatModel], Any]:
    """Return a reader of the least and largest step size of mixers of a kind, if any."""

    def read(view: FlatModel) -> Any:
        low, high = (value_of(view, kind, f"dt_at_{end}") for end in ("least", "most"))
        if not low and high is None:
            return MISSING
        return [low, {"__float__": "Infinity"} if high is None else high]

    return read


def value_of(view: FlatModel, kind: str, key: str) -> Any:
    """Return the value of a key of the first mixer of a kind, in a pair of mixers too."""
    for layer in view.layers:
        outer = layer["mixer"]
        for mixer in (outer, *(outer.get(name) for name in ("first", "second", "mixer"))):
            if mixer and mixer["kind"] == kind:
                return mixer[key]
    return MISSING


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a Mamba-2."""
    return [*OUTER_ROWS, *ssd_rows(f"{BLOCK}.mixer", f"{HF_BLOCK}.mixer")]


def ssd_rows(ours: str, theirs: str) -> list[Row]:
    """Return the rows of Mamba-2's mixer."""
    return [
        *rows(f"{ours}.{{A_log,D,dt_bias,norm}}", f"{theirs}.{{A_log,D,dt_bias,norm}}"),
        *rows(f"{ours}.{{inputs,o}}", f"{theirs}.{{in,out}}_proj"),
        Row(f"{ours}.conv", f"{theirs}.conv1d", Depthwise()),
    ]


MAMBA2 = Family(
    model_types=("mamba2",),
    architecture="Mamba2ForCausalLM",
    model=model,
    weights=weights,
    config=config_writer(
        {
            **BARE_KEYS,
            "head_dim": "block.mixer.head_dim",
            "n_groups": "block.mixer.n_groups",
            "time_step_limit": limited("mamba2"),
            "num_heads": lambda view: int(
                view.number("block.mixer.inner_dim") // view.number("block.mixer.head_dim")
            ),
        }
    ),
    renames=MAMBA.renames,
    tied=MAMBA.tied,
)
