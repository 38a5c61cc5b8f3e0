"""Metrics of written texts against references, by the packages that the field compares with."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.errors import RunError
from .interval import Score, mean, scored

ROUGE = ("rouge1", "rouge2", "rougeL")
WORD = re.compile("[A-Za-z0-9]+")


def translation(written: Sequence[str], references: Sequence[str]) -> list[Score]:
    """BLEU (Papineni et al. 2002) and chrF (Popović 2015) of the whole, from 0 to 100.

    sacrebleu's own tokenization and defaults (Post 2018); texts are given as people read them.

    Raises:
        RunError: the package is absent.
    """
    try:
        from sacrebleu.metrics import BLEU, CHRF
    except ImportError:
        raise RunError("BLEU and chrF need sacrebleu: pip install 'mlxt[eval]'.") from None
    return [
        _of_sums("bleu", BLEU(force=True), written, references),
        _of_sums("chrf", CHRF(), written, references),
    ]


def summarization(written: Sequence[str], references: Sequence[str]) -> list[Score]:
    """The means over texts of the F measures of ROUGE-1, -2 and -L (Lin 2004), from 0 to 1.

    Google's implementation with Porter's stemmer, as T5 and BART report it.

    Raises:
        RunError: the package is absent.
    """
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError:
        raise RunError("ROUGE needs rouge-score: pip install 'mlxt[eval]'.") from None
    scorer = RougeScorer(list(ROUGE), use_stemmer=True)
    pairs = zip(references, written, strict=True)
    found = [scorer.score(reference, text) for reference, text in pairs]
    return [mean(name, np.array([one[name].fmeasure for one in found])) for name in ROUGE]


def leads(sources: Sequence[str], references: Sequence[str]) -> list[str]:
    """How each source begins, in as many words as references have in the middle: what a summary has
    to beat (the "lead" baseline; Nallapati et al. 2017, section 4.3). Words as ROUGE has them."""
    n = int(np.median([len(WORD.findall(reference)) for reference in references]))
    return [" ".join(WORD.findall(source)[:n]) for source in sources]


def _of_sums(name: str, metric: Any, written: Sequence[str], references: Sequence[str]) -> Score:
    """A metric of sums over texts: those of each are counted once, and drawn as sacrebleu draws
    them itself."""
    counts = np.array(metric._extract_corpus_statistics(list(written), [list(references)]))

    def measure(numbers: np.ndarray) -> float:
        return float(metric._compute_score_from_stats(counts[numbers].sum(axis=0).tolist()).score)

    return scored(name, len(written), measure)
