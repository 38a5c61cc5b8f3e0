"""Normalisations against their formulas."""

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.core.context import Context

from . import norms, reference
from .suite import Row, difference, weights_of


@pytest.mark.parametrize("row", norms.ROWS, ids=str)
def test_a_norm_is_the_formula(row: Row) -> None:
    subject = row.subject()
    x = subject.inputs() * 3 + 1
    w = reference.below(weights_of(subject), "it")
    expected = reference.norm(np.asarray(x, dtype=np.float64), w, row.config)
    np.testing.assert_allclose(subject(x, Context()), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16], ids=["bf16", "fp16"])
@pytest.mark.parametrize("kind", ["layer_norm", "rms_norm"])
def test_large_values_in_half_precision_do_not_overflow(kind: str, dtype: mx.Dtype) -> None:
    subject = norms.norm("large", {"kind": kind}).bare()
    x = subject.inputs()
    big = subject((x * 3000).astype(dtype), Context())
    assert difference(big, subject(x, Context())) < 0.05


def test_norms_begin_as_the_bare_formula() -> None:
    x = norms.ROWS[0].subject().inputs()
    for kind in ("layer_norm", "rms_norm"):
        y = np.asarray(norms.norm("fresh", {"kind": kind}).bare()(x, Context()))
        np.testing.assert_allclose((y * y).mean(axis=-1), 1.0, rtol=1e-3)
