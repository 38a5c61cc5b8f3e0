r"""Answers taken from generated text by a pattern, and compared after normalisation.

The filters and the exact match of the lm-evaluation-harness (Gao et al.); GSM8K's settings (Cobbe
et al. 2021): strict takes what follows `####`, flexible takes the last number of the text.
"""

import re
import string
from collections.abc import Sequence
from dataclasses import dataclass

INVALID = "[invalid]"
"""Stands for an answer in which a pattern has no match."""


@dataclass(frozen=True)
class Extraction:
    """Takes one match of a pattern.

    Attributes:
        pattern: a regular expression; of several groups the first that isn't empty is taken.
        which: number of the match, from 0; -1 is the last.
        otherwise: the result where nothing matches.
    """

    pattern: str
    which: int = 0
    otherwise: str = INVALID

    def __call__(self, text: str) -> str:
        all_matches = re.findall(self.pattern, text)
        if not all_matches:
            return self.otherwise
        match = all_matches[self.which]
        if isinstance(match, tuple):
            match = next((group for group in match if group), self.otherwise)
        return str(match).strip()


@dataclass(frozen=True)
class Normalisation:
    """Differences that two equal answers may have.

    Attributes:
        removed: regular expressions whose matches are removed, in this order.
        ignore_case: whether case is ignored.
        ignore_punctuation: whether ASCII punctuation is.
        ignore_numbers: whether digits are.
    """

    removed: tuple[str, ...] = ()
    ignore_case: bool = False
    ignore_punctuation: bool = False
    ignore_numbers: bool = False

    def __call__(self, text: str) -> str:
        for pattern in self.removed:
            text = re.sub(pattern, "", text)
        if self.ignore_case:
            text = text.lower()
        dropped = string.punctuation * self.ignore_punctuation + string.digits * self.ignore_numbers
        return text.translate(str.maketrans("", "", dropped))

    def same(self, a: str, b: str) -> bool:
        """Whether two answers are equal after normalisation."""
        return self(a) == self(b)


GSM8K_STRICT = Extraction(r"#### (\-?[0-9\.\,]+)")
GSM8K_FLEXIBLE = Extraction(r"(-?[$0-9.,]{2,})|(-?[0-9]+)", which=-1)
GSM8K = Normalisation((",", r"\$", "(?s).*#### ", r"\.$"), ignore_case=True)


def majority(answers: Sequence[str]) -> str:
    """The most frequent answer, the first of those that are equally frequent; invalid ones count
    only where there are no others (Wang et al. 2022, "Self-Consistency")."""
    valid = [answer for answer in answers if answer != INVALID] or [INVALID]
    return max(dict.fromkeys(valid), key=valid.count)
