"""In-context regression: vectors in the place of tokens, and numbers at positions."""

import json

import mlx.core as mx
import numpy as np
import pytest
from contract.models import LLAMA
from contract.suite import parse, randomize

from mlx_transformers.core.context import Context
from mlx_transformers.core.errors import DataError, RecipeError
from mlx_transformers.data.batches.regression import Regression as Rows
from mlx_transformers.data.config import Data
from mlx_transformers.data.corpora.linear_regression import LinearRegression
from mlx_transformers.data.kinds import BatchSetting
from mlx_transformers.data.pieces import Piece
from mlx_transformers.data.prepare import prepare
from mlx_transformers.objectives.regression import Regression, predictions

TABLE = {
    "corpus": "linear_regression",
    "settings": {"n_examples": 40, "n_dims": 2, "n_pairs": 4},
    "tokenizer": {"kind": "byte"},
    "batch": {"kind": "regression"},
}


def test_a_row_is_a_linear_function_that_its_pairs_determine(tmp_path, monkeypatch):
    monkeypatch.setenv("MLXT_CACHE", str(tmp_path))
    table = Data.model_validate(TABLE)
    prepared = prepare(table)
    batch = table.batch.train(prepared, BatchSetting(seq_len=8, seed=0)).batch(np.arange(5))
    x, y = batch["vectors"][:, ::2, :2], batch["vectors"][:, 1::2, 2]
    assert np.array_equal(batch["counted"], np.tile([1, 0], (5, 4)))
    assert np.array_equal(batch["values"][:, ::2], y)
    for inputs, values in zip(x, y, strict=True):
        weights = np.linalg.lstsq(inputs[:2], values[:2])[0]
        assert np.allclose(inputs[2:] @ weights, values[2:], atol=1e-3)
    with pytest.raises(DataError, match=r"8 vectors, and train\.seq_len is 6"):
        table.batch.train(prepared, BatchSetting(seq_len=6, seed=0)).batch(np.arange(2))


@pytest.mark.parametrize(
    ("vectors", "values", "words"),
    [
        ([[1.0], [2.0]], [1.0], "for each of them"),
        ([[1.0], [2.0, 3.0]], [1.0, None], "as many finite"),
        ([[1.0], [float("nan")]], [1.0, None], "as many finite"),
        ([[1.0], [1e39]], [1.0, None], "as many finite"),
        ([[1.0], [2.0]], [1.0, "x"], "finite numbers, or null"),
    ],
    ids=str,
)
def test_rows_that_are_no_numbers_are_refused(vectors, values, words):
    record = {"vectors": vectors, "values": values}
    with pytest.raises(DataError, match=f"row 3.*{words}"):
        Rows().accept(Piece(json.dumps(record), where="row 3", record=record))


def test_the_loss_is_the_squared_error_of_numbers_that_see_no_later_pair():
    embed = {"kind": "token", "width": 3}
    model = parse("model", LLAMA | {"pool": {"kind": "scalar"}, "embed": embed}).build(13)
    model = randomize(model, 0)
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((2, 6, 3)).astype(np.float32)
    values = rng.standard_normal((2, 6)).astype(np.float32)
    counted = np.tile(np.float32([1, 0]), (2, 3))
    found = np.array(predictions(model, mx.array(vectors), Context()))
    changed = vectors.copy()
    changed[:, 3] += 1
    again = np.array(predictions(model, mx.array(changed), Context()))
    assert np.allclose(found[:, :3], again[:, :3], atol=1e-5)
    assert np.abs(found[:, 4:] - again[:, 4:]).min() > 1e-6
    batch = {"vectors": vectors, "values": values, "counted": counted}
    batch = {k: mx.array(v) for k, v in batch.items()} | {"weights": mx.array([1.0, 0.0])}
    loss = Regression().build()({"model": model}, batch, Context())
    assert float(loss.total) == pytest.approx(np.mean((found - values)[0, ::2] ** 2), rel=1e-4)
    with pytest.raises(RecipeError, match=r"model\.embed\.width"):
        predictions(model, mx.zeros((1, 4, 5)), Context())


def test_the_corpus_has_noise_where_asked():
    clean, noisy = (LinearRegression({"n_examples": 20, "noise": s}).records for s in (0, 0.5))
    assert clean[0]["vectors"][0] == noisy[0]["vectors"][0]
    assert clean[0]["values"] != noisy[0]["values"]
