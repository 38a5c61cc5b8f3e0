"""What a config.json leaves out is what transformers takes for it; `tools/defaults.py` asks it."""

import json
from pathlib import Path
from typing import Any

import pytest

from mlx_transformers.convert.config import NO_EFFECT, HfConfig
from mlx_transformers.convert.family import Table, read
from mlx_transformers.convert.reference import defaults_of
from mlx_transformers.convert.registry import FAMILIES
from mlx_transformers.core.errors import ConvertError

DEFAULTS: dict[str, Table] = json.loads(
    (Path(__file__).parent / "defaults.json").read_text("utf-8")
)
SAID: dict[str, Table] = {
    # sparse attention is refused
    "big_bird": {"attention_type": "original_full"},
    # how many layers look ahead is told by the file
    "deepseek_v3": {"num_nextn_predict_layers": 0},
    "glm4_moe": {"num_nextn_predict_layers": 0},
    # the class leaves them open
    "esm": {"pad_token_id": 1, "vocab_size": 33},
    # the class spells out what follows from other keys
    "hyperclovax": {"attention_multiplier": 0.125},
    "roformer": {"embedding_size": 768},
    # the published base, not that of the newest class
    "persimmon": {"rope_parameters": {"rope_theta": 25000.0, "rope_type": "default"}},
}
"""What both sides say."""


def understood(name: str, config: Table) -> Any:
    """The `[model]` table of a config, and the names in its weight map."""
    family = next(f for f in FAMILIES if name in f.model_types)
    table, rows = read(family, HfConfig({"model_type": name, **config, **SAID.get(name, {})}))
    return table, [(row.ours, row.theirs, repr(row.via)) for row in rows]


@pytest.mark.parametrize("name", sorted(DEFAULTS))
def test_what_is_left_out_is_the_default_of_the_config_class(name: str) -> None:
    assert understood(name, {}) == understood(name, DEFAULTS[name])


BESIDE_TRANSFORMERS = {"internlm", "internlm2", "internlm3"}
"""Families whose config classes come with the files."""


def test_the_defaults_of_every_family_are_known() -> None:
    known = [family for family in FAMILIES if family.name not in BESIDE_TRANSFORMERS]
    assert all(DEFAULTS.keys() & set(family.model_types) for family in known)


CONDITIONAL: dict[str, set[str]] = {
    # the table of rotary positions that the class assumes goes first
    **{name: {"rope_theta"} for name in ("apertus", "cwm", "ministral3", "persimmon")},
    # sliding windows, if another key turns them on
    "dots1": {"intermediate_size", "sliding_window", "max_window_layers"},
    "qwen2": {"sliding_window", "max_window_layers"},
    "qwen2_moe": {"intermediate_size", "sliding_window", "max_window_layers"},
    "qwen3": {"sliding_window", "max_window_layers"},
    "qwen3_moe": {"intermediate_size", "sliding_window"},
    "smollm3": {"use_sliding_window", "sliding_window"},
    # latent attention has no groups; experts in all layers leave no dense network
    "deepseek_v2": {"intermediate_size", "num_key_value_heads", "n_group", "topk_group"},
    "deepseek_v3": {"num_key_value_heads"},
    "glm4_moe_lite": {"num_key_value_heads"},
    "kimi_linear": {"num_key_value_heads"},
    "minicpm3": {"num_key_value_heads", "head_dim"},
    "youtu": {"num_key_value_heads"},
    "solar_open": {"intermediate_size"},
    # attention is relative only if `relative_attention` says so
    "deberta": {"max_relative_positions"},
    "deberta-v2": {"max_relative_positions", "share_att_key", "position_buckets", "norm_rel_ebd"},
    # the class attends in no layer, or in all; a norm that is left out has no place
    "bamba": {"attention_bias", "attention_dropout", "head_dim"}
    | {"num_attention_heads", "num_key_value_heads"},
    # without a `layer_types` no layer attends, and without a kind of positions there are none
    "granitemoehybrid": {"attention_bias", "attention_dropout", "head_dim", "num_attention_heads"}
    | {"num_key_value_heads", "rope_theta", "position_embedding_type", "attention_multiplier"},
    "lfm2": {"conv_L_cache", "conv_bias"},
    "lfm2_moe": {"conv_L_cache", "conv_bias"},
    "falcon_h1": {"mamba_norm_before_gate"},
    # full attention reads no block sizes; classes without this head don't pool
    "big_bird": {"block_size", "num_random_blocks"},
    "eurobert": {"classifier_pooling"},
    # with another architecture switch, or with several languages
    "falcon": {"num_ln_in_parallel_attn"},
    "flaubert": {"use_lang_emb"},
    "xlm": {"use_lang_emb"},
}
"""Keys that have an effect only if another key is set."""


def other(value: Any) -> Any:
    """Another value of the same type."""
    match value:
        case bool():
            return not value
        case int():
            return value + 2 if value >= 0 else 3
        case float():
            return 2 * value + 0.5
        case str():
            return "silu" if value == "relu" else "relu"
        case list():
            return [*value, 1]
        case dict():
            return {**value, "factor": 3.0}
    return 7


def outcome(name: str, config: Table) -> Any:
    try:
        return understood(name, config)
    except ConvertError:
        return "refused"


@pytest.mark.parametrize("name", sorted(DEFAULTS))
def test_every_key_that_the_reference_reads_has_an_effect_or_is_refused(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key may be without effect only where the family says so (`ignore`), or `CONDITIONAL`."""
    ignored: set[str] = set()
    ignore = HfConfig.ignore

    def recorded(config: HfConfig, *keys: str) -> None:
        ignored.update(keys)
        ignore(config, *keys)

    monkeypatch.setattr(HfConfig, "ignore", recorded)
    silent = set()
    for key in defaults_of(name).keys() - SAID.get(name, {}).keys():
        default = defaults_of(name)[key]
        bases: list[Table] = [{}, DEFAULTS[name]]
        changes = [{**base, key: other(base.get(key, default))} for base in bases]
        if all(outcome(name, c) == outcome(name, b) for c, b in zip(changes, bases, strict=True)):
            silent.add(key)
    assert silent - ignored - NO_EFFECT == CONDITIONAL.get(name, set())
