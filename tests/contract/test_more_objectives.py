"""Objectives beside causal language modelling, against their formulas in NumPy."""

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.core.context import Context
from mlx_transformers.core.loss import Loss

from . import reference
from .fakes import Reader, numpy_of
from .objectives import BATCHES
from .suite import VOCAB, parse


def loss_of(config: dict[str, Any], batch: dict[str, Any], training: bool = False) -> Loss:
    ctx = Context(key=mx.random.key(0) if training else None)
    arrays = {name: mx.array(array) for name, array in batch.items()}
    return parse("objective", config).build()({"model": Reader(VOCAB)}, arrays, ctx)


def mean(x: np.ndarray, valid: np.ndarray) -> np.ndarray:
    return np.stack([row[real].mean(axis=0) for row, real in zip(x, valid, strict=True)])


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_a_target_is_conditioned_on_the_source_that_exists(
    smoothing: float, training: bool
) -> None:
    batch = BATCHES["seq2seq"]
    w = numpy_of(Reader(VOCAB))
    source = w["table"][batch["source"]]
    valid = batch["source_valid"]
    memory = source + mean(source, valid)[:, None]
    h = w["table"][batch["tokens"][:, :-1]] + mean(memory, valid)[:, None]
    total, plain = reference.cross_entropy(
        h @ w["out"].T, batch["tokens"][:, 1:], batch["weights"], smoothing
    )
    found = loss_of({"kind": "seq2seq", "label_smoothing": smoothing}, batch, training)
    assert float(found.total) == pytest.approx(total, rel=1e-5)
    assert float(found.parts["loss"]) == pytest.approx(plain, rel=1e-5)
    assert float(found.weight) == batch["weights"].sum()
