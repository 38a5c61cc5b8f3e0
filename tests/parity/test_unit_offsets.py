"""Files of mlx-lm whose norms hold `1 + w` open as the published ones do."""

import json
from pathlib import Path

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten

from mlx_transformers.assembly.published import published
from mlx_transformers.convert.config import HfConfig

from .draw import draw

GOLDENS = Path(__file__).parent / "goldens"
PLAIN = "linear_attn.norm.weight"
"""The norm that has no offset in either file."""


@pytest.mark.parametrize("name", ["qwen3_next", "qwen3_5"])
def test_norms_of_mlx_lm_have_their_offset_taken_off(name: str) -> None:
    facts = json.loads((GOLDENS / f"{name}.json").read_text())
    tensors = {n: mx.array(draw(n, shape, {})) for n, shape in facts["tensors"].items()}
    tensors["mtp.norm.weight"] = mx.ones(4)
    converted = {}
    for n, x in tensors.items():
        normed = "norm" in n and not n.endswith(PLAIN)
        converted[n] = x.swapaxes(1, 2) if "conv1d" in n else x + 1 if normed else x
    theirs, mlx_lm = (
        dict(tree_flatten(published(HfConfig(facts["config"]), x, name).model.parameters()))
        for x in (tensors, converted)
    )
    assert theirs.keys() == mlx_lm.keys()
    for n, x in theirs.items():
        assert mx.allclose(x, mlx_lm[n], atol=1e-6), n
