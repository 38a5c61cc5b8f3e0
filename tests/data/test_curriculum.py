"""Curricula: what is easy, how many rows take part, and the usual epochs afterwards."""

import numpy as np
import pytest

from mlx_transformers.data.config import Data
from mlx_transformers.data.curriculum import (
    Curriculum,
    CurriculumRows,
    Pace,
    ShortRows,
    difficulty,
)
from mlx_transformers.data.kinds import BatchSetting
from mlx_transformers.data.prepare import prepare


@pytest.fixture
def prepared(tmp_path):
    """A text whose first half repeats one word; the rest is rare and hard to compress."""
    rare = "".join(chr(97 + n) for n in np.random.default_rng(0).integers(0, 26, 2000))
    (tmp_path / "text.txt").write_text("e " * 1000 + rare)
    data = Data.model_validate(
        {"path": str(tmp_path / "text.txt"), "tokenizer": {"kind": "byte"}, "valid_fraction": 0.1}
    )
    return data, prepare(data)


def rows_of(prepared, shuffle):
    data, found = prepared
    return data.batch.train(found, BatchSetting(16, 1, shuffle))


@pytest.mark.parametrize("by", ["rarity", "compression"])
def test_common_words_are_easy(prepared, by):
    hard = difficulty(by, rows_of(prepared, False), prepared[1])
    n = len(hard)
    assert hard[: n // 3].max() < hard[2 * n // 3 :].min()


def test_a_row_without_targets_has_a_length():
    class Answers:
        """Prompts, and weights of 1 at the tokens of their answers; the first has none."""

        per_epoch = 2

        def batch(self, rows):
            weights = np.array([[0, 0, 0, 0], [0, 1, 0, 0]])
            return {"tokens": np.arange(10).reshape(2, 5)[rows], "weights": weights[rows]}

    assert difficulty("length", Answers(), None).tolist() == [5, 3]


@pytest.mark.parametrize(
    ("pacing", "middle"),
    [("linear", 0.52), ("root", ((1 + 0.04**2) / 2) ** 0.5), ("geometric", 0.2), ("step", 0.36)],
)
def test_the_share_of_rows_grows_from_its_start_to_all(pacing, middle):
    found = Curriculum(by="rarity", pacing=pacing, start=0.04, steps=100)
    shares = found.share(np.arange(0, 201, 50))
    np.testing.assert_allclose(shares, [0.04, middle, 1, 1, 1], atol=1e-9)
    assert (np.diff(found.share(np.arange(120))) >= 0).all()


def test_rows_are_easy_first_and_then_the_usual_ones(prepared):
    fixed, usual = rows_of(prepared, False), rows_of(prepared, True)
    order = np.argsort(difficulty("compression", fixed, prepared[1]), kind="stable")
    curriculum = Curriculum(by="compression", start=0.2, steps=50, pacing="linear")
    rows = CurriculumRows(usual, fixed, order, Pace(curriculum, lambda rows: rows // 4, 200))
    batches = [rows.batch(np.arange(4 * n, 4 * n + 4))["tokens"] for n in range(60)]
    words = [set(batch.ravel().tolist()) for batch in batches]
    assert all(len(found) == 2 for found in words[:10])
    assert max(map(len, words[40:50])) > 20
    np.testing.assert_array_equal(batches[50], usual.batch(np.arange(4))["tokens"])
    np.testing.assert_array_equal(batches[7], rows.batch(np.arange(28, 32))["tokens"])


def test_short_rows_are_the_beginnings_of_long_ones(prepared):
    usual = rows_of(prepared, True)
    short = ShortRows(usual, lambda row: 8 if row < 4 else 16, 2)
    np.testing.assert_array_equal(
        short.batch(np.arange(4))["tokens"], usual.batch(np.arange(4))["tokens"][:, :9]
    )
    assert short.batch(np.arange(4, 8))["tokens"].shape == (4, 17)
