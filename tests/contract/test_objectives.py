"""Causal language modelling against cross-entropy in NumPy, and packed = unpacked."""

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mlx_transformers.core.context import Context
from mlx_transformers.core.loss import Loss
from mlx_transformers.ops.xent import cross_entropy_naive

from . import models, reference
from .objectives import CLM
from .objectives import ROWS as EVERY
from .suite import VOCAB, Row, parse, randomize, weights_of

SEGMENTS = np.array([[0] * 4 + [1] * 6 + [2] * 2, [0] * 5 + [7] * 7])
TOKENS = np.random.default_rng(0).integers(0, VOCAB, SEGMENTS.shape).astype(np.int32)
WEIGHTS = np.random.default_rng(1).random((2, 11)).astype(np.float32)
HEADS = {
    "plain": {"kind": "lm", "tied": False},
    "tied, biased, capped": {"kind": "lm", "tied": True, "bias": True, "softcap": 2.0},
}
ROWS = [row for row in EVERY if row.kind == "clm"]


def model_of(config: dict) -> Any:
    return randomize(parse("model", config).build(VOCAB), 0)


def without_dropout(config: Any) -> Any:
    """The config with every dropout at 0, so that a training pass is deterministic."""
    if not isinstance(config, dict):
        return config
    return {k: 0.0 if k == "dropout" else without_dropout(v) for k, v in config.items()}


def loss_of(model: Any, batch: dict, row: Row = ROWS[0], training: bool = False) -> Loss:
    arrays = {name: mx.array(value) for name, value in batch.items()}
    ctx = Context(key=mx.random.key(0) if training else None)
    return row.parse().build()({"model": model}, arrays, ctx)


def gradients(model: Any, total: Callable[[], mx.array]) -> dict[str, np.ndarray]:
    params = model.trainable_parameters()

    def of(params: Any) -> mx.array:
        model.update(params)
        return total()

    grads = mx.grad(of)(params)
    model.update(params)
    return {name: np.asarray(g) for name, g in tree_flatten(grads)}


@pytest.mark.parametrize(
    "extras", [(), ("weights",), ("segments",), ("weights", "segments")], ids=str
)
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("row", ROWS, ids=str)
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_the_loss_is_cross_entropy_summed(
    row: Row, head: str, extras: tuple[str, ...], training: bool
) -> None:
    config = models.LLAMA | {"head": HEADS[head]}
    model = model_of(config)
    batch = {"tokens": TOKENS} | {
        name: {"weights": WEIGHTS, "segments": SEGMENTS}[name] for name in extras
    }
    loss = loss_of(model, batch, row, training)
    segments = batch.get("segments")
    weights = batch.get("weights", np.ones((2, 11))).astype(np.float64)
    if segments is not None:
        weights = weights * (segments[:, 1:] == segments[:, :-1])
    seen = segments[:, :-1] if segments is not None else None
    logits = reference.decoder(TOKENS[:, :-1], weights_of(model), config, seen)
    total, plain = reference.cross_entropy(
        logits,
        TOKENS[:, 1:],
        weights,
        row.config.get("label_smoothing", 0.0),
        row.config.get("z_loss", 0.0),
    )
    assert float(loss.total) == pytest.approx(total, rel=1e-5)
    assert float(loss.parts["loss"]) == pytest.approx(plain, rel=1e-5)
    assert float(loss.weight) == pytest.approx(weights.sum(), rel=1e-6)


@pytest.mark.parametrize("name", ["2017", "gpt2", "llama", "mistral", "window and full by turns"])
def test_packed_documents_are_the_documents_alone(name: str) -> None:
    row = next(row for row in models.ROWS if row.name == name)
    model = model_of(without_dropout(dict(row.config)))
    packed = {"tokens": TOKENS, "segments": SEGMENTS}
    alone = [
        {"tokens": TOKENS[b : b + 1, segments == s]}
        for b, segments in enumerate(SEGMENTS)
        for s in np.unique(segments)
    ]
    losses = [loss_of(model, batch) for batch in alone]
    whole = loss_of(model, packed)
    assert float(whole.total) == pytest.approx(sum(float(x.total) for x in losses), rel=1e-5)
    assert float(whole.weight) == sum(float(x.weight) for x in losses) == 24 - 5

    def slopes(batch: dict) -> dict[str, np.ndarray]:
        return gradients(model, lambda: loss_of(model, batch, training=True).total)

    each = [slopes(batch) for batch in alone]
    for parameter, g in slopes(packed).items():
        np.testing.assert_allclose(
            g, sum(e[parameter] for e in each), rtol=1e-4, atol=1e-4, err_msg=parameter
        )


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("chunk", [1, 5, 22, 100])
@pytest.mark.parametrize("head", HEADS)
def test_a_chunked_loss_has_the_gradients_of_the_plain_one(
    head: str, chunk: int, training: bool
) -> None:
    model = model_of(models.LLAMA | {"head": HEADS[head]})
    options = {"label_smoothing": 0.1, "z_loss": 0.1}
    row = Row("objective", "chunked", CLM | options | {"chunk": chunk})
    batch = {"tokens": TOKENS, "weights": WEIGHTS}

    def plain() -> mx.array:
        logits = model(mx.array(TOKENS[:, :-1])).reshape(-1, VOCAB)
        targets, weights = mx.array(TOKENS[:, 1:]).reshape(-1), mx.array(WEIGHTS).reshape(-1)
        return cross_entropy_naive(logits, targets, weights, **options)[0]

    chunked = gradients(model, lambda: loss_of(model, batch, row, training).total)
    for name, g in gradients(model, plain).items():
        np.testing.assert_allclose(chunked[name], g, rtol=1e-4, atol=1e-4, err_msg=name)


def test_a_chunked_loss_never_holds_the_logits_of_the_whole_batch() -> None:
    vocab, tokens = 8192, mx.zeros((4, 257), mx.int32)
    model = parse("model", models.LLAMA | {"n_layers": 1, "max_seq_len": 256}).build(vocab)
    params = model.trainable_parameters()
    mx.eval(params)
    logits = 4 * 256 * vocab * 4

    def peak(chunk: int) -> int:
        objective = Row("objective", "peak", CLM | {"chunk": chunk}).parse().build()

        def total(params: Any) -> mx.array:
            model.update(params)
            ctx = Context(key=mx.random.key(0))
            return objective({"model": model}, {"tokens": tokens}, ctx).total

        before = mx.get_active_memory()
        mx.reset_peak_memory()
        mx.eval(mx.value_and_grad(total)(params))
        model.update(params)
        return mx.get_peak_memory() - before

    limit = mx.set_memory_limit(1)  # evaluation runs no further ahead: the peak is the least one
    try:
        assert peak(32) < logits / 2 < logits <= peak(4 * 256)
    finally:
        mx.set_memory_limit(limit)


def test_auxiliary_losses_are_added_once_per_token() -> None:
    model = model_of(models.MIXTRAL)
    loss = loss_of(model, {"tokens": TOKENS, "weights": WEIGHTS})
    weight = float(loss.weight)
    aux = float(loss.parts["balance"]) + float(loss.parts["router_z"])
    assert aux > 0.1 * weight
    assert float(loss.total) == pytest.approx(float(loss.parts["loss"]) + aux, rel=1e-5)
    assert 1.0 <= float(loss.parts["max_load/0"]) / weight <= 4.0


def test_tokens_without_weight_change_nothing() -> None:
    model = model_of(models.LLAMA)
    weights = np.concatenate([np.ones((2, 6)), np.zeros((2, 5))], axis=1).astype(np.float32)
    other = TOKENS.copy()
    other[:, 7:] = (other[:, 7:] + 3) % VOCAB
    one, two = (loss_of(model, {"tokens": t, "weights": weights}) for t in (TOKENS, other))
    assert float(one.total) == pytest.approx(float(two.total), rel=1e-6)
    short = loss_of(model, {"tokens": TOKENS[:, :7]})
    assert float(one.total) == pytest.approx(float(short.total), rel=1e-5)


@pytest.mark.compiled
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_loss_its_parts_and_its_gradients_can_leave_one_compiled_function(
    row: Row, head: str
) -> None:
    model = model_of(models.MIXTRAL | {"head": HEADS[head]})
    batch = {"tokens": TOKENS, "weights": WEIGHTS, "segments": SEGMENTS}

    def step(params: Any) -> Any:
        def loss(params: Any) -> Any:
            model.update(params)
            out = loss_of(model, batch, row, training=True)
            return out.total, (out.parts, out.weight)

        return mx.value_and_grad(loss)(params)

    params = model.trainable_parameters()
    # Calling it traces and merges what is equal, where MLX can stumble; no kernel is built.
    (_, (parts, _)), grads = mx.compile(step)(params)
    model.update(params)
    assert {"loss", "balance", "router_z"} <= set(parts)
    assert dict(tree_flatten(grads)).keys() == dict(tree_flatten(params)).keys()
