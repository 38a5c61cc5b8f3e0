"""BLEU: the n-grams that a text shares with its references.

    BLEU = brevity · exp(1/N Σ log precision_n)        n = 1 .. N; counts are summed over all texts

Papineni et al. 2002; words, smoothing and several references as in sacrebleu (Post 2018).
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..core.errors import RunError, unknown

ENTITIES = {"&quot;": '"', "&amp;": "&", "&lt;": "<", "&gt;": ">"}
RULES_13A = (
    (re.compile(r"([\{-\~\[-\` -\&\(-\+\:-\@\/])"), r" \1 "),
    (re.compile(r"([^0-9])([\.,])"), r"\1 \2 "),
    (re.compile(r"([\.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
)
SMOOTHING = {"none": 0.0, "exp": 0.0, "floor": 0.1, "add-k": 1.0}
"""Methods of smoothing (Chen & Cherry 2014), with the value of each by default."""


def mteval_13a(text: str) -> list[str]:
    """Words as in mteval-v13a: ASCII punctuation apart, but . , - within numbers."""
    text = text.replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for entity, plain in ENTITIES.items():
        text = text.replace(entity, plain)
    text = f" {text} "
    for pattern, new in RULES_13A:
        text = pattern.sub(new, text)
    return text.split()


def mteval_14(text: str) -> list[str]:
    """Words as in mteval-v14: punctuation and symbols of all languages apart."""
    kinds = [unicodedata.category(c)[0] for c in text]
    # Each pass of the script consumes the pairs it matches, so a mark splits from one neighbour.
    text = _apart(text, kinds, lambda a, b: a != "N" and b == "P", r"{a} {b} ")
    kinds = [unicodedata.category(c)[0] for c in text]
    text = _apart(text, kinds, lambda a, b: a == "P" and b != "N", r" {a} {b}")
    return "".join(f" {c} " if unicodedata.category(c)[0] == "S" else c for c in text).split()


def _apart(text: str, kinds: list[str], match: Callable[[str, str], bool], new: str) -> str:
    """Rewrite pairs of neighbours, from the left, without overlap."""
    out, i = [], 0
    while i < len(text):
        if i + 1 < len(text) and match(kinds[i], kinds[i + 1]):
            out.append(new.format(a=text[i], b=text[i + 1]))
            i += 2
        else:
            out.append(text[i])
            i += 1
    return "".join(out)


TOKENIZERS: dict[str, Callable[[str], list[str]]] = {
    "13a": mteval_13a,
    "intl": mteval_14,
    "char": lambda text: [c for c in text if not c.isspace()],
    "none": str.split,
}


@dataclass(frozen=True)
class Bleu:
    """Options of BLEU; the defaults are sacrebleu's.

    Attributes:
        tokenize: `13a`, `intl`, `char` or `none`.
        lowercase: whether case is ignored.
        order: the longest n-grams.
        smooth: `exp`, `floor`, `add-k` or `none`: how n-grams without a match count.
        smooth_value: of `floor` and `add-k`; None takes 0.1 and 1.
        effective_order: whether orders beyond the text's length are left out.

    Raises:
        RunError: an unknown tokenizer or smoothing.
    """

    tokenize: str = "13a"
    lowercase: bool = False
    order: int = 4
    smooth: str = "exp"
    smooth_value: float | None = None
    effective_order: bool = False

    def __post_init__(self) -> None:
        if self.tokenize not in TOKENIZERS:
            raise RunError(unknown("tokenizer of BLEU", self.tokenize, TOKENIZERS))
        if self.smooth not in SMOOTHING:
            raise RunError(unknown("smoothing of BLEU", self.smooth, SMOOTHING))

    def counts(self, written: str, references: Sequence[str]) -> np.ndarray:
        """Terms of a text in the sums, `[2 + 2N]`: its length, that of the reference nearest in
        length, and for each order the matches and the n-grams."""
        text_words, reference_words = (
            self._words(written),
            [self._words(text) for text in references],
        )
        length = len(text_words)
        nearest = min(
            (len(reference) for reference in reference_words), key=lambda n: (abs(n - length), n)
        )
        numbers = [length, nearest]
        for n in range(1, self.order + 1):
            most: Counter[tuple[str, ...]] = Counter()
            for reference in reference_words:
                most |= _ngrams(reference, n)
            had = _ngrams(text_words, n)
            numbers += [(had & most).total(), had.total()]
        return np.array(numbers, dtype=np.float64)

    def value(self, counts: np.ndarray) -> float:
        """BLEU of summed counts, from 0 to 100."""
        length, reference_length = counts[:2]
        matches, totals = counts[2::2].copy(), counts[3::2].copy()
        if not matches.any():
            return 0.0
        smoothing = SMOOTHING[self.smooth] if self.smooth_value is None else self.smooth_value
        if self.smooth == "add-k":
            matches[1:] += smoothing
            totals[1:] += smoothing
        precisions, halved = np.zeros(self.order), 1.0
        order = self.order
        for n, (match, total) in enumerate(zip(matches, totals, strict=True)):
            if total == 0:
                break
            if self.effective_order:
                order = n + 1
            if match == 0 and self.smooth == "exp":
                halved *= 2
                match = 1 / halved
            elif match == 0 and self.smooth == "floor":
                match = smoothing
            precisions[n] = match / total
        if not precisions[:order].all():
            return 0.0
        brevity = math.exp(1 - reference_length / length) if length < reference_length else 1.0
        return 100 * brevity * math.exp(float(np.log(precisions[:order]).mean()))

    def _words(self, text: str) -> list[str]:
        text = text.rstrip()
        return TOKENIZERS[self.tokenize](text.lower() if self.lowercase else text)


def _ngrams(tokens: list[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))
