"""Models of transformers, rebuilt from drawn weights, give what they gave there.

`tools/goldens.py` makes the files, `tools/goldens_mlx_lm.py` those of models that only mlx-lm has.
These tests need neither torch nor transformers.
"""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from model_outputs import outputs

from mlx_transformers.assembly.published import Published, published
from mlx_transformers.convert.config import HfConfig
from mlx_transformers.convert.registry import FAMILIES

from .draw import draw

GOLDENS = Path(__file__).parent / "goldens"
NAMES = sorted(path.stem for path in GOLDENS.glob("*.json"))
TOLERANCE: dict[str, float] = {}
"""The largest difference allowed, for goldens that need another than the usual one."""
USUAL = 1e-4
INPUTS = {"prompt_ids", "pixel_values", "input_features", "attention_mask", "token_type_ids"}
INPUTS |= {"noise"}


def read(name: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    facts = json.loads((GOLDENS / f"{name}.json").read_text())
    with np.load(GOLDENS / f"{name}.npz") as file:
        return facts, dict(file)


def rebuild(facts: dict[str, Any]) -> Published:
    tensors = {
        tensor: mx.array(draw(tensor, shape, facts["special"]))
        for tensor, shape in facts["tensors"].items()
    }
    return published(HfConfig(facts["config"]), tensors, facts["class"])


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_those_of_transformers(name: str) -> None:
    facts, arrays = read(name)
    found = rebuild(facts)
    got = outputs(found.model, arrays)
    wanted = [key for key in arrays if key not in INPUTS and not key.endswith(("_ids", "_mask"))]
    wanted = [key for key in wanted if not key.startswith("train_")]
    assert wanted
    for key in wanted:
        if key == "gen_tokens":
            chosen = got[key][:, : arrays[key].shape[1]]
            assert chosen.tolist() == arrays[key].tolist()
            continue
        mask = arrays.get("lp_attention_mask" if key == "lp_logits" else "attention_mask")
        want, have = arrays[key], got[key]
        assert have.shape == want.shape
        if mask is not None and want.shape[:2] == mask.shape:
            want, have = want[mask == 1], have[mask == 1]
        assert np.abs(want - have).max() < TOLERANCE.get(name, USUAL), key


def test_drawn_weights_are_the_documented_ones() -> None:
    [first, second] = draw("x.bias", (2,)).tolist()
    assert draw("x.bias", (2,)).tolist() == [first, second] != draw("y.bias", (2,)).tolist()
    assert [round(first, 6), round(second, 6)] == [0.064205, -0.215248]
    assert abs(draw("a.weight", (100,)).mean() - 1) < 0.1
    assert abs(draw("a.weight", (100, 64)).std() - 1 / 8) < 0.01
    assert draw("a.A_log", (9,), {"A_log": (5.0, 0.1)}).min() > 4.8


def test_there_is_a_golden_for_every_family() -> None:
    said = {
        json.loads((GOLDENS / f"{name}.json").read_text())["config"]["model_type"] for name in NAMES
    }
    lacking = [family.name for family in FAMILIES if not said & set(family.model_types)]
    assert not lacking, f"python tools/goldens.py makes them: {lacking}"
