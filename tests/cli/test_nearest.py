"""`mlxt nearest`, and `mlxt eval` with published lists: a small run of word2vec from end to end."""

import json
from pathlib import Path

import numpy as np
import pytest

from mlx_transformers.data.tokenizers.words import WordTokenizer
from mlx_transformers.verbs.word_vectors import WordSpace, analogies, similarities

from .conftest import Mlxt
from .test_bad_input import refused

WORDS = ["<unk>", "man", "woman", "king", "queen", "boy", "girl", "tree"]


@pytest.fixture
def space() -> WordSpace:
    """Vectors whose first number is royalty, whose second is sex and whose third is youth."""
    people = [
        [royal, sex, young, 1] for royal, young in ((0, 0), (1, 0), (0, 1)) for sex in (1, -1)
    ]
    rows = np.array([[0] * 4, *people, [0, 0, 0, -1]], np.float32)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return WordSpace(Path("run"), WordTokenizer(WORDS, letters=True), rows)


def test_a_sum_of_words_is_near_its_answer(space: WordSpace) -> None:
    assert space.nearest("king - man + woman", 2)[0][0] == "queen"
    found = dict(space.nearest("king"))
    assert set(found) == set(WORDS[1:]) - {"king"}
    assert found["queen"] == pytest.approx(float(space.vectors[3] @ space.vectors[4]))


def test_analogies_are_solved_over_the_whole_vocabulary(space: WordSpace, tmp_path: Path) -> None:
    path = tmp_path / "questions"
    path.write_text(
        ": family\nMan Woman King Queen\nking queen boy girl\nman woman dukes duchess\n"
        ": wrong\nman king woman tree\n"
    )
    found = analogies(space, path)
    assert [(s.name, s.value) for s in found.scores] == [
        ("accuracy", pytest.approx(2 / 3)),
        ("family", 1.0),
        ("wrong", 0.0),
    ]
    assert (found.counts, found.asked) == ([3, 2, 1], 4)


def test_similarities_are_compared_by_rank(space: WordSpace, tmp_path: Path) -> None:
    path = tmp_path / "pairs"
    pairs = [("man", "king"), ("man", "queen"), ("king", "tree"), ("boy", "man")]
    cosines = [
        float(space.vectors[WORDS.index(a)] @ space.vectors[WORDS.index(b)]) for a, b in pairs
    ]
    lines = [f"{a},{b},{np.exp(c)}" for (a, b), c in zip(pairs, cosines, strict=True)]
    path.write_text("\n".join([*lines, "man,unheard,3"]))
    found = similarities(space, path)
    assert found.scores[0].value == pytest.approx(1.0)
    assert (found.counts, found.asked) == ([4], 5)


def test_a_run_of_word2vec_from_end_to_end(mlxt: Mlxt, home: Path) -> None:
    (home / "t.txt").write_text("the king saw the queen and the man saw the woman . " * 60)
    sets = ["data.path='t.txt'", "unset=['data.corpus', 'data.batch.subsample']"]
    sets += ["data.tokenizer.min_count=1"]
    sets += ["train.steps=3", "train.seq_len=16", "train.batch_size=2", "model.dim=8"]
    given = [part for each in sets for part in ("--set", each)]
    assert mlxt("train", "embeddings/word2vec_tiny", "--name", "w", *given).code == 0
    out = mlxt("nearest", "w", "--word", "king", "--word", "king - man", "--top", "2", "--json")
    rows = json.loads(out.out)
    assert [row["word"] for row in rows] == ["king", "king - man"]
    assert len(rows[0]["nearest"]) == 2
    (home / "pairs.csv").write_text("king,queen,9\nman,saw,1\nthe,and,3\n")
    (home / "questions").write_text(": a\nking queen man woman\n")
    asked = mlxt("eval", "w", "--similarities", "pairs.csv", "--json")
    assert json.loads(asked.out)["counts"] == [3]
    assert "accuracy" in mlxt("eval", "w", "--analogies", "questions").out
    assert "nats per pair" in mlxt("eval", "w").out
    assert mlxt("embed", "w", "--text", "the king", "--text", "the queen").code == 0
    refused(mlxt("nearest", "w", "--word", "duke"), "lacks the word 'duke'", "min_count")
    refused(mlxt("nearest", "w", "--word", "- king"), "lacks the word '- king'")
    refused(mlxt("nearest", "w"), "Give a word")
    refused(mlxt("finetune", "w", "--data", "t.txt"), "no usual recipe", "RUN RECIPE")
    both = ("--analogies", "questions", "--similarities", "pairs.csv")
    refused(mlxt("eval", "w", *both), "--similarities doesn't go with --analogies")
    (home / "questions").write_text("a duke the count\n")
    refused(mlxt("eval", "w", "--analogies", "questions"), "knows the words of 0", "more text")
