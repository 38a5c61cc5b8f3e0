"""Metrics of written texts against references, with intervals."""

import re
from collections.abc import Sequence

import numpy as np

from .bleu import Bleu
from .chrf import Chrf
from .interval import Score, mean, scored
from .rouge import rouge

ROUGE = ("rouge1", "rouge2", "rougeL")
WORD = re.compile("[A-Za-z0-9]+")


def translation(written: Sequence[str], references: Sequence[str]) -> list[Score]:
    """BLEU (Papineni et al. 2002) and chrF (Popović 2015) of all texts, from 0 to 100.

    Tokenization and defaults are sacrebleu's (Post 2018); texts are given as people read them.
    """
    return [
        _of_sums("bleu", Bleu(), written, references),
        _of_sums("chrf", Chrf(), written, references),
    ]


def summarization(written: Sequence[str], references: Sequence[str]) -> list[Score]:
    """The means over texts of the F measures of ROUGE-1, -2 and -L (Lin 2004), from 0 to 1, with
    Porter's stemmer, as T5 and BART report them."""
    pairs = list(zip(references, written, strict=True))
    return [
        mean(
            name, np.array([rouge(name, reference, text, stem=True).f for reference, text in pairs])
        )
        for name in ROUGE
    ]


def leads(sources: Sequence[str], references: Sequence[str]) -> list[str]:
    """The first words of each source, as many as references have in the median: what a summary has
    to beat (the "lead" baseline; Nallapati et al. 2017, section 4.3). Words are ROUGE's."""
    n = int(np.median([len(WORD.findall(reference)) for reference in references]))
    return [" ".join(WORD.findall(source)[:n]) for source in sources]


def _of_sums(
    name: str, metric: Bleu | Chrf, written: Sequence[str], references: Sequence[str]
) -> Score:
    """A metric of sums over texts, which are counted once and drawn as whole texts (Koehn 2004)."""
    pairs = zip(written, references, strict=True)
    counts = np.array([metric.counts(text, [reference]) for text, reference in pairs])
    return scored(name, len(written), lambda i: metric.value(counts[i].sum(axis=0)))
