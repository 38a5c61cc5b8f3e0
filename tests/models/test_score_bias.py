"""Positions that add a bias to attention scores, in stacks that have a place for it or none."""

import pytest
from contract.models import LLAMA
from pydantic import ValidationError

from mlx_transformers.models.decoder import Decoder

HEADS = {"kind": "attention", "n_heads": 2}
MAMBA = {"kind": "mamba", "state_dim": 2}
SPARSE = {"kind": "sparse_transformer", "n_heads": 2, "stride": 3}


def stack(*mixers: dict) -> dict:
    blocks = {f"m{i}": LLAMA["block"] | {"mixer": mixer} for i, mixer in enumerate(mixers)}
    return LLAMA | {
        "n_layers": len(mixers),
        "position": {"kind": "alibi"},
        "blocks": blocks,
        "pattern": list(blocks),
    }


def test_a_bias_that_no_layer_adds_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"'alibi' has no effect: .* mixer.kind = 'mamba'"):
        Decoder.model_validate(stack(MAMBA, MAMBA))
    beside = {"kind": "side_by_side", "first": MAMBA, "second": HEADS}
    for mixers in ((MAMBA, HEADS), (beside,)):
        Decoder.model_validate(stack(*mixers))


def test_a_pattern_without_a_place_for_a_bias_is_refused_wherever_it_stands() -> None:
    with pytest.raises(ValidationError, match=r"'sparse_transformer' has no place for one"):
        Decoder.model_validate(stack(HEADS, SPARSE))
