"""Mixtures of texts: shares, the order of each text, and a place that needs no more than a row."""

import numpy as np
import pytest

from mlx_transformers.data.config import Data
from mlx_transformers.data.kinds import BatchSetting
from mlx_transformers.data.mixture import Mix, MixedText
from mlx_transformers.data.prepare import prepare
from mlx_transformers.data.stream import TrainStream

SETTING = BatchSetting(16, seed=1, batch_size=4)


@pytest.fixture
def mixed(tmp_path):
    """A text of the letters a to j, and one of A to J; both in one vocabulary of characters."""
    for name, letters in (("low", "abcdefghij"), ("high", "ABCDEFGHIJ")):
        (tmp_path / f"{name}.txt").write_text(letters * 200)
    return Data.model_validate(
        {
            "path": str(tmp_path / "low.txt"),
            "mixture": [{"name": "high", "weight": 0.25, "path": str(tmp_path / "high.txt")}],
            "tokenizer": {"kind": "char"},
        }
    )


def test_each_text_has_its_share_at_any_moment():
    texts = [
        MixedText(name="a", corpus="stdlib", weight=0.1),
        MixedText(name="b", corpus="stdlib", weight=0.6, end_weight=0.2, steps=100),
    ]
    mix = Mix(texts, lambda rows: rows // 8)
    rows = np.arange(4000)
    shares = np.array([mix.choices(rows[rows // 8 == step]) for step in range(500)])
    for number, first, last in ((0, 0.3, 0.7), (1, 0.1, 0.1), (2, 0.6, 0.2)):
        chosen = shares == number
        assert abs(chosen[:20].mean() - (first + (last - first) * 0.1)) < 0.03
        assert abs(chosen[100:].mean() - last) < 0.002
        assert abs(chosen[300:320].mean() - last) < 0.03


def test_a_mixture_is_read_as_its_texts_are_and_resumes_by_the_row(mixed):
    data = prepare(mixed)
    mix = Mix(mixed.mixture, lambda rows: rows // 4)
    assert data.tokenizer.decode(data.mixed["high"].tokens("train")[:3]) == "ABC"

    def stream(cursor=None, **keys):
        return TrainStream(data, SETTING, loader="none", cursor=cursor, **keys)

    whole = stream(mix=mix)
    read = np.concatenate([next(whole)["tokens"] for _ in range(40)])
    upper = read.min(axis=1) < data.tokenizer.encode("a")[0]
    assert abs(upper.sum() - 40) <= 1
    assert whole.stats() == {"tokens/data": 16 * (~upper).sum(), "tokens/high": 16 * upper.sum()}
    alone = stream()
    np.testing.assert_array_equal(
        read[~upper][:40], np.concatenate([next(alone)["tokens"] for _ in range(10)])
    )
    first = stream(mix=mix)
    for _ in range(17):
        next(first)
    later = stream(first.cursor, mix=mix)
    np.testing.assert_array_equal(next(later)["tokens"], read[68:72])
    assert later.stats()["tokens/high"] == int(upper[:72].sum()) * 16


def test_counting_tokens_does_not_count_again_the_rows_that_are_read_ahead(mixed, monkeypatch):
    stream = TrainStream(
        prepare(mixed), SETTING, loader="none", mix=Mix(mixed.mixture, lambda rows: rows // 4)
    )
    next(stream)
    stream.preview(40)
    counted, choices = [], Mix.choices
    monkeypatch.setattr(
        Mix, "choices", lambda mix, rows: counted.append(rows) or choices(mix, rows)
    )
    stream.stats()
    stream.batch(41)
    assert sum(map(len, counted)) == 3 * 4  # the batch delivered, the batch read, and that before


@pytest.mark.parametrize(
    ("mixture", "words"),
    [
        ([{"weight": 0.5, "end_weight": 0.1}], "needs both"),
        ([{"weight": 0.0}], "never has a share"),
        ([{"weight": 0.5}, {"weight": 0.1}], "are called 'a'"),
        ([{"weight": 0.5}, {"name": "b", "weight": 0.5}], "sum to 1 at step 0"),
        ([{"weight": 0.1, "end_weight": 0.9, "steps": 9}, {"name": "b", "weight": 0.2}], "step 9"),
        ([{"weight": 0.5, "corpus": None}], "No text"),
    ],
)
def test_mixtures_that_leave_something_open_are_refused(mixture, words):
    texts = [{"name": "a", "corpus": "stdlib"} | text for text in mixture]
    with pytest.raises(ValueError, match=words):
        Data.model_validate(
            {"corpus": "shakespeare", "tokenizer": {"kind": "byte"}, "mixture": texts}
        )


def test_rows_that_continue_each_other_are_not_mixed():
    texts = [{"name": "a", "corpus": "stdlib", "weight": 0.5}]
    for kind in ("streams", "chat"):
        with pytest.raises(ValueError, match=f"kind '{kind}'"):
            Data.model_validate(
                {
                    "corpus": "shakespeare",
                    "tokenizer": {"kind": "byte"},
                    "mixture": texts,
                    "batch": {"kind": kind},
                }
            )
