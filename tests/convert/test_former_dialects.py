"""Keys of older published files say the same as those of today."""

import json
from pathlib import Path
from typing import Any

import pytest

from mlx_transformers.convert.config import HfConfig
from mlx_transformers.convert.family import read
from mlx_transformers.convert.registry import family_of
from mlx_transformers.core.errors import ConvertError

GOLDENS = Path(__file__).parents[1] / "parity" / "goldens"
LETTERS = {"linear_attention": "M", "full_attention": "*", "mlp": "-", "moe": "E"}
FORMER_KEYS = {
    "conv_kernel": "mamba_d_conv",
    "n_groups": "mamba_n_groups",
    "use_conv_bias": "mamba_conv_bias",
    "time_step_min": "mamba_dt_min",
    "time_step_max": "mamba_dt_max",
    "time_step_floor": "mamba_dt_init_floor",
    "time_step_limit": "mamba_dt_limit",
    "chunk_size": "mamba_chunk_size",
    "expand": "mamba_expand",
}
"""Of Nemotron-H."""


def golden(name: str) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((GOLDENS / f"{name}.json").read_text("utf-8"))
    own: dict[str, Any] = facts["config"]
    return own


def table(keys: dict[str, Any]) -> Any:
    config = HfConfig(keys)
    return read(family_of(config), config)


def test_a_kimi_lists_its_layers_from_1_in_a_table() -> None:
    new = golden("kimi_linear")
    old = dict(new)
    types = old.pop("layer_types")
    old["linear_attn_config"] = {
        "full_attn_layers": [i + 1 for i, kind in enumerate(types) if kind == "full_attention"],
        "kda_layers": [i + 1 for i, kind in enumerate(types) if kind == "linear_attention"],
        "head_dim": old.pop("linear_head_dim"),
        "num_heads": old.pop("linear_num_heads"),
        "short_conv_kernel_size": old.pop("linear_conv_kernel_dim"),
    }
    assert table(old) == table(new)
    old["linear_attn_config"]["num_heads"] += 1
    assert table(old) != table(new)


@pytest.mark.parametrize("name", ["nemotron_h", "nemotron_h_moe"])
def test_a_nemotron_h_names_its_layers_by_letters(name: str) -> None:
    new = golden(name) | {"use_conv_bias": True, "time_step_floor": 0.01}
    old = {FORMER_KEYS.get(key, key): value for key, value in new.items()}
    kinds = old.pop("layers_block_type")
    old["hybrid_override_pattern"] = "".join(LETTERS[kind] for kind in kinds)
    assert table(old) == table(new)
    assert table(old | {"mamba_d_conv": 2}) != table(new)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"time_step_limit": [0.01, 0.5]}, r"time_step_limit = \[0.01, 0.5\] is not built: mlx-lm"),
        ({"mamba_dt_limit": [0.01, 0.5]}, "mamba_dt_limit = .* is not built: mlx-lm"),
        ({"mamba_proj_bias": True}, "mamba_proj_bias = True beside use_bias = False"),
    ],
)
def test_what_mlx_lm_reads_and_transformers_does_not_is_refused(
    change: dict[str, Any], said: str
) -> None:
    own = golden("nemotron_h")
    with pytest.raises(ConvertError, match=said):
        table(own | change)
    assert table(own | {"mamba_proj_bias": True, "use_bias": True})
    assert table(own | {"time_step_limit": [own["time_step_min"], float("inf")]})


@pytest.mark.parametrize(
    ("key", "list_of_layers"),
    [("interleave_moe_layer_step", "moe_layers"), ("no_rope_layer_interval", "no_rope_layers")],
)
def test_a_step_of_no_layers_is_refused(key: str, list_of_layers: str) -> None:
    own = golden("llama4")
    with pytest.raises(ConvertError, match=f"{key} = 0 has to be at least 1"):
        table(own | {key: 0, list_of_layers: None})
    assert table(own | {key: 0}) == table(own)
