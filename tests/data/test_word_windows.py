"""Subsampling, windows and noise of word2vec, and the lists that word vectors are measured with."""

from pathlib import Path

import numpy as np
import pytest

from mlx_transformers.core.errors import DataError
from mlx_transformers.data.batches.cbow import Cbow
from mlx_transformers.data.batches.skip_gram import SkipGram
from mlx_transformers.data.config import Data
from mlx_transformers.data.kinds import BatchSetting
from mlx_transformers.data.noise.contexts import (
    drawn_words,
    kept_shares,
    neighbours,
    noise_shares,
)
from mlx_transformers.data.prepare import prepare
from mlx_transformers.data.tokenizers.words import Words
from mlx_transformers.data.word_lists import read_analogies, read_similarities

WINDOW = 3


def test_a_nearer_word_is_in_more_windows() -> None:
    places, inside = neighbours(6000, WINDOW, np.random.default_rng(0))
    distance = np.abs(places - np.arange(6000)[:, None])
    shares = [inside[distance == d].mean() for d in (1, 2, 3)]
    np.testing.assert_allclose(shares, [1, 2 / 3, 1 / 3], atol=0.02)


def test_the_ends_of_a_text_have_no_words_beyond_them() -> None:
    places, inside = neighbours(2, WINDOW, np.random.default_rng(0))
    assert [list(places[i][inside[i]]) for i in (0, 1)] == [[1], [0]]
    assert neighbours(0, WINDOW, np.random.default_rng(0))[1].shape == (0, 2 * WINDOW)


def test_frequent_words_are_kept_less_and_drawn_by_counts_to_a_power() -> None:
    counts = np.array([0, 900, 99, 1])
    np.testing.assert_allclose(kept_shares(counts, 0.009), [1, 0.1, np.sqrt(0.009 / 0.099), 1])
    assert (kept_shares(counts, None) == 1).all()
    drawn = drawn_words(noise_shares(counts, 0.75), (40000,), np.random.default_rng(0))
    raised = np.array([0, 900**0.75, 99**0.75, 1])
    np.testing.assert_allclose(np.bincount(drawn) / 40000, raised / raised.sum(), atol=0.01)


@pytest.fixture
def text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Data:
    monkeypatch.setenv("MLXT_CACHE", str(tmp_path / "cache"))
    words = [f"w{chr(97 + i % 7)}" for i in range(300)]
    words[::50] = ["Rare-once"] * 6
    (tmp_path / "text.txt").write_text(" ".join(words))
    tokenizer = {"kind": "words", "letters": True, "min_count": 7}
    table = {"path": str(tmp_path / "text.txt"), "tokenizer": tokenizer, "valid_fraction": 0.2}
    return Data.model_validate(table)


def test_rows_have_pairs_of_near_words_and_no_unknown_ones(text: Data) -> None:
    prepared = prepare(text)
    setting = BatchSetting(20, seed=1)
    kind = SkipGram(window=WINDOW, negatives=4, subsample=None)
    batch = kind.train(prepared, setting).batch(np.arange(4))
    assert batch["tokens"].shape == (4, 2 * WINDOW * 20, 1)
    counted = batch["weights"] > 0
    # seven words by turns: near ones differ by at most the window, and by one more where a rare
    # word stood between them
    apart = (batch["targets"] - batch["tokens"][..., 0]) % prepared.vocab_size
    assert counted.any(axis=1).all()
    assert (batch["tokens"][counted] > 0).all()
    assert (batch["negatives"][counted] > 0).all()
    assert (apart[counted] != 0).all()
    cbow = Cbow(window=WINDOW, negatives=4, subsample=None)
    around = cbow.held_out(prepared, "valid", setting).batch(np.arange(2))
    assert around["tokens"].shape == (2, 20, 2 * WINDOW)
    full = around["valid"][around["weights"] > 0].sum(axis=1)
    assert full.min() >= 1
    assert full.max() <= 2 * WINDOW
    assert cbow.columns(20).target == 20 * (2 * WINDOW + 1 + 4)


def test_the_plan_takes_words_to_follow_zipfs_law_before_there_is_a_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLXT_CACHE", str(tmp_path / "cache"))
    shares = 1 / np.arange(1, 5001)
    drawn = np.random.default_rng(0).choice(5000, 60_000, p=shares / shares.sum())
    letters = (chr(97 + i // 676) + chr(97 + i // 26 % 26) + chr(97 + i % 26) for i in range(5000))
    names = list(letters)
    (tmp_path / "text.txt").write_text(" ".join(names[i] for i in drawn))
    table = {"path": str(tmp_path / "text.txt"), "tokenizer": {"kind": "words", "letters": True}}
    prepared = prepare(Data.model_validate(table))
    for kind in (SkipGram(subsample=1e-3), Cbow(subsample=1e-3)):
        found = kind.train(prepared, BatchSetting(256, seed=1)).batch(np.arange(4))
        examples, given = found["tokens"].shape[1:]
        real = examples * (given + 1 + kind.negatives)
        assert kind.columns(256).target == pytest.approx(real, rel=0.1)


def test_words_of_letters_are_in_lower_case_and_keep_their_apostrophes() -> None:
    tokenizer = Words(letters=True).build(["The 2 kings' Crown, the king's. It_is"])
    assert sorted(tokenizer.words) == sorted(
        ["<unk>", "the", "kings", "crown", "king's", "it", "is"]
    )
    assert tokenizer.encode("THE queen") == [tokenizer.words.index("the"), 0]
    again = type(tokenizer).read(tokenizer.serialize())
    assert again.encode("Crown!") == tokenizer.encode("crown")


@pytest.mark.parametrize(
    "text",
    [
        'Word 1,Word 2,Human (mean)\ntiger,cat,7.35\n"plane",car,5.77\n',
        "Word 1\tWord 2\tHuman (mean)\r\ntiger\tcat\t7.35\r\nplane\tcar\t5.77\r\n",
        "# a comment\ntiger\tcat\t7.35\nplane\tcar\t5.77",
        "word1\tword2\tPOS\tSimLex999\tSD\ntiger\tcat\tN\t7.35\t1\nplane\tcar\tN\t5.77\t1\n",
    ],
)
def test_similarities_are_read_in_their_published_formats(text: str, tmp_path: Path) -> None:
    path = tmp_path / "pairs"
    path.write_bytes(text.encode())
    assert [(one.words, one.score) for one in read_similarities(path)] == [
        (("tiger", "cat"), 7.35),
        (("plane", "car"), 5.77),
    ]


def test_analogies_have_sections(tmp_path: Path) -> None:
    path = tmp_path / "questions-words.txt"
    path.write_text(": capital-common\nAthens Greece Oslo Norway\n: family\nboy girl king queen\n")
    found = read_analogies(path)
    assert [one.section for one in found] == ["capital-common", "family"]
    assert found[1].words == ("boy", "girl", "king", "queen")


@pytest.mark.parametrize(
    ("read", "text", "message"),
    [
        (read_analogies, ": a\none two three\n", "line 2: an analogy is four words"),
        (read_analogies, ": a\n", "has no analogy"),
        (read_analogies, b"\xff", "not UTF-8"),
        (read_similarities, "a,b,c\n", "line 1: a pair is two words and a number"),
        (read_similarities, "a,b,nan\n", "line 1: .*finite"),
        (read_similarities, "# a\n", "has no pair"),
        (read_similarities, "Word 1,Word 2,Human (mean)\n", "has a header and no pair"),
    ],
)
def test_other_lists_are_refused(
    read: object, text: str | bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "list"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=message):
        read(path)  # type: ignore[operator]
    with pytest.raises(DataError, match="can't be read"):
        read(tmp_path / "missing")  # type: ignore[operator]
