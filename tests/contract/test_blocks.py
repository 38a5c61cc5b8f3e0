"""Residual wiring: every placement and arrangement against its own hand-written composition."""

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.core.context import Context
from mlx_transformers.layers.residual import NORMS

from . import blocks, reference
from .suite import BATCH, LENGTH, Row, difference, memory, parse, weights_of


@pytest.mark.parametrize("norm", ["rms_norm", "layer_norm", "none"])
@pytest.mark.parametrize("row", blocks.ROWS, ids=str)
def test_a_block_is_the_composition_of_its_parts(row: Row, norm: str) -> None:
    config = {**row.config, "norm": {"kind": norm}}
    subject = row.subject(norm=config["norm"])
    x = subject.inputs()
    w = reference.below(weights_of(subject), "it")
    known = np.asarray(memory(BATCH, mx.float32), dtype=np.float64)
    expected = reference.block(
        np.asarray(x, dtype=np.float64), w, config, row.position, memory=known
    )
    np.testing.assert_allclose(subject(x, Context()), expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("arrangement", ["sequential", "parallel"])
@pytest.mark.parametrize("placement", NORMS)
def test_a_block_owns_the_norms_that_its_placement_names(placement: str, arrangement: str) -> None:
    fields = {"placement": placement, "arrangement": arrangement}
    names = weights_of(Row("block", "norms", blocks.BLOCK | fields).subject())
    residuals = ["residual"] if arrangement == "parallel" else ["mixer_residual", "ffn_residual"]
    found = {name for name in names if "residual" in name}
    assert found == {f"it.{r}.{n}.weight" for r in residuals for n in NORMS[placement]}


def test_a_pre_norm_block_with_silent_outputs_is_the_identity() -> None:
    subject = blocks.ROWS[0].subject()
    subject.it.mixer.o.weight = mx.zeros_like(subject.it.mixer.o.weight)
    subject.it.ffn.down.weight = mx.zeros_like(subject.it.ffn.down.weight)
    x = subject.inputs()
    assert mx.array_equal(subject(x, Context()), x)


@pytest.mark.parametrize("arrangement", ["sequential", "parallel"])
def test_the_residual_stream_itself_is_never_dropped(arrangement: str) -> None:
    fields = {"dropout": 0.999, "arrangement": arrangement}
    subject = Row("block", "dropped", blocks.BLOCK | fields).subject()
    x = subject.inputs()
    y = subject(x, Context(key=mx.random.key(0)))
    kept = np.asarray(mx.abs(y - x).max(axis=-1) < 1e-6)
    assert kept.mean() > 0.5
    assert kept.shape == (BATCH, LENGTH)
    assert difference(subject(x, Context()), x) > 0.1


def test_a_block_without_an_ffn_has_no_place_for_what_an_ffn_needs() -> None:
    alone = {key: value for key, value in blocks.BLOCK.items() if key != "ffn"}
    for name, value in (("ffn_norm", {"kind": "none"}), ("arrangement", "parallel")):
        with pytest.raises(ValueError, match="ffn"):
            parse("block", alone | {name: value})


def test_the_decode_state_of_a_block_is_a_dict_of_those_of_its_sublayers() -> None:
    for row in blocks.ROWS:
        subject = row.subject()
        state = subject.begin(1, 4, mx.float32)
        expected = {"mixer", *(name for name in ("cross", "branch") if name in subject.it)}
        if row.config.get("ffn", {}).get("kind") == "channel_mixing":
            expected.add("ffn")
        assert set(state) == expected
