"""BLEU, chrF and ROUGE equal sacrebleu 2.6.0, rouge-score 0.1.2 and NLTK's stemmer."""

import numpy as np
import pytest

from mlx_transformers.core.errors import RunError
from mlx_transformers.score.bleu import Bleu
from mlx_transformers.score.chrf import Chrf
from mlx_transformers.score.porter import porter
from mlx_transformers.score.rouge import best_rouge, rouge

WRITTEN = ["The cat sat on 3,5 mats.", "It's raining „today“, isn't it?", "no"]
REFERENCES = [
    ["The cat is sitting on 3.5 mats.", "A cat sat on mats."],
    ["It rains „today“, doesn't it?", "Is it raining?"],
    ["No way", "yes"],
]


def whole(metric):
    counts = [metric.counts(text, refs) for text, refs in zip(WRITTEN, REFERENCES, strict=True)]
    return metric.value(np.sum(counts, axis=0))


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (Bleu(), 21.879524),
        (Bleu(tokenize="intl"), 37.076185),
        (Bleu(tokenize="char", lowercase=True), 75.89295),
        (Bleu(tokenize="none", smooth="floor"), 15.352598),
        (Bleu(smooth="add-k", smooth_value=0.5), 23.792466),
        (Bleu(order=2, effective_order=True), 60.553007),
        (Chrf(), 52.302221),
        (Chrf(word_order=2), 51.957476),
        (Chrf(beta=1, lowercase=True, char_order=3), 67.626014),
        (Chrf(whitespace=True), 61.609415),
        (Chrf(eps_smoothing=True), 52.287735),
    ],
)
def test_bleu_and_chrf_are_those_of_sacrebleu(metric, expected):
    assert whole(metric) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("kind", "stem", "expected"),
    [
        ("rouge2", False, (0.2, 0.285714, 0.235294)),
        ("rougeL", True, (0.363636, 0.5, 0.421053)),
        ("rougeLsum", False, (0.454545, 0.625, 0.526316)),
        ("rougeLsum", True, (0.545455, 0.75, 0.631579)),
    ],
)
def test_rouge_is_that_of_rouge_score(kind, stem, expected):
    reference = "the dogs were running happily\nall generations agreed"
    written = "a dog runs, happy to agree\nthe dogs were all running"
    assert rouge(kind, reference, written, stem=stem) == pytest.approx(expected, abs=1e-6)
    assert best_rouge(kind, ["?", reference], written, stem=stem).f == pytest.approx(
        expected[2], abs=1e-6
    )


def test_words_have_the_stems_of_nltk():
    pairs = "ties:tie dies:die skies:sky agreed:agre feed:feed hopping:hop falling:fall filing:file"
    pairs += " happy:happi enjoy:enjoy rationally:ration biology:biolog meetings:meet cried:cri"
    pairs += " conditional:condit adoption:adopt controlling:control at:at"
    for word, stem in (pair.split(":") for pair in pairs.split()):
        assert porter(word) == stem


def test_unknown_names_are_refused():
    with pytest.raises(RunError, match="Did you mean 'intl'"):
        Bleu(tokenize="int")
    with pytest.raises(RunError, match="rouge1 to rouge9"):
        rouge("rouge0", "a", "a")
