"""What a config.json leaves out is what transformers takes for it; `tools/defaults.py` asks it."""

import json
from pathlib import Path
from typing import Any

import pytest

from mlx_transformers.convert.config import HfConfig
from mlx_transformers.convert.family import Table, read
from mlx_transformers.convert.known import FAMILIES

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
    return table, [(row.ours, row.theirs) for row in rows]


@pytest.mark.parametrize("name", sorted(DEFAULTS))
def test_what_is_left_out_is_the_default_of_the_config_class(name: str) -> None:
    assert understood(name, {}) == understood(name, DEFAULTS[name])


def test_the_defaults_of_every_family_are_known() -> None:
    assert all(DEFAULTS.keys() & set(family.model_types) for family in FAMILIES)
