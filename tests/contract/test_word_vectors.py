"""word2vec's loss and gradient against word2vec.c's own steps, written in loops."""

from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mlx_transformers.core.context import Context

from .objectives import BATCHES
from .suite import VOCAB, parse, randomize

BATCH = BATCHES["negative_sampling"]
Gradients = dict[str, np.ndarray]


def naive(words: np.ndarray, contexts: np.ndarray) -> tuple[float, float, Gradients]:
    """Loss, weight and gradients: one example after the other, one word after the other."""
    loss, weight = 0.0, 0.0
    of_words, of_contexts = np.zeros_like(words), np.zeros_like(contexts)
    for row in range(len(BATCH["targets"])):
        for place in range(BATCH["targets"].shape[1]):
            if not BATCH["weights"][row, place]:
                continue
            weight += 1
            given = BATCH["tokens"][row, place][BATCH["valid"][row, place]]
            h = sum(words[word] for word in given) / len(given)
            back = np.zeros_like(h)
            target = BATCH["targets"][row, place]
            for k, word in enumerate([target, *BATCH["negatives"][row, place]]):
                if k and word == target:
                    continue
                f = 1 / (1 + np.exp(-h @ contexts[word]))
                loss -= np.log(f if k == 0 else 1 - f)
                g = f - (k == 0)
                back += g * contexts[word]
                of_contexts[word] += g * h
            for word in given:
                of_words[word] += back / len(given)
    return loss, weight, {"words.weight": of_words, "contexts.weight": of_contexts}


def test_loss_and_gradients_are_those_of_word2vec() -> None:
    model = randomize(parse("model", {"kind": "word_vectors", "dim": 6}).build(VOCAB), 0)
    objective = parse("objective", {"kind": "negative_sampling"}).build()
    batch = {name: mx.array(array) for name, array in BATCH.items()}
    assert (BATCH["negatives"] == BATCH["targets"][..., None]).any(), "some are left out"

    def total(params: Any) -> mx.array:
        model.update(params)
        return objective({"model": model}, batch, Context()).total

    params = model.trainable_parameters()
    value, grads = mx.value_and_grad(total)(params)
    model.update(params)
    tables = [np.asarray(model[name].weight, np.float64) for name in ("words", "contexts")]
    loss, weight, expected = naive(*tables)
    assert value.item() == pytest.approx(loss, rel=1e-5)
    assert objective({"model": model}, batch, Context()).weight.item() == weight == 6
    for name, gradient in tree_flatten(grads):
        np.testing.assert_allclose(gradient, expected[name], rtol=1e-4, atol=1e-6, err_msg=name)


def test_new_vectors_start_as_in_the_published_code() -> None:
    model = parse("model", {"kind": "word_vectors", "dim": 50}).build(200)
    start = np.asarray(model.words.weight)
    assert np.abs(start).max() <= 0.01
    assert start.std() == pytest.approx(0.01 / np.sqrt(3), rel=0.05)
    assert not np.asarray(model.contexts.weight).any()
