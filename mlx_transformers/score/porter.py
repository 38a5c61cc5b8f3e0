"""The Porter stemmer, with NLTK's extensions: the one that published ROUGE scores use.

Porter 1980, "An algorithm for suffix stripping". Bird et al., NLTK: words of two letters stay, some
irregular words have their own stem, and a few suffixes are treated in another way than in 1980.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

IRREGULAR = {
    "sky": "sky", "skies": "sky", "dying": "die", "lying": "lie", "tying": "tie", "news": "news",
    "innings": "inning", "inning": "inning", "outings": "outing", "outing": "outing",
    "cannings": "canning", "canning": "canning", "howe": "howe", "proceed": "proceed",
    "exceed": "exceed", "succeed": "succeed",
}  # fmt: skip


class Rule(NamedTuple):
    """Replaces a suffix where the rest of the word fulfils a condition."""

    suffix: str
    new: str
    holds: Callable[[str], bool] = lambda rest: measure(rest) > 0


@cache
def porter(word: str) -> str:
    """Return the stem of a word."""
    word = word.lower()
    if word in IRREGULAR:
        return IRREGULAR[word]
    if len(word) <= 2:
        return word
    for step in (_plural, _past, _final_y, _double_suffix, _single_suffix, _bare, _final_e, _ll):
        word = step(word)
    return word


def is_consonant(word: str, i: int) -> bool:
    """Whether letter i is a consonant: y is one at the start and after a vowel."""
    if word[i] == "y":
        return i == 0 or not is_consonant(word, i - 1)
    return word[i] not in "aeiou"


def measure(rest: str) -> int:
    """The number of vowel-consonant sequences in a word."""
    kinds = "".join("c" if is_consonant(rest, i) else "v" for i in range(len(rest)))
    return kinds.count("vc")


def _has_vowel(rest: str) -> bool:
    return any(not is_consonant(rest, i) for i in range(len(rest)))


def _ends_short(word: str) -> bool:
    """Whether a word ends in consonant, vowel, consonant other than w, x, y; or is vowel and
    consonant."""
    kinds = [is_consonant(word, i) for i in range(len(word))]
    if len(word) == 2:
        return kinds == [False, True]
    return kinds[-3:] == [True, False, True] and word[-1] not in "wxy"


def _first(word: str, rules: Sequence[Rule]) -> str:
    """Apply the first rule whose suffix the word has; no other if its condition fails."""
    for rule in rules:
        if word.endswith(rule.suffix):
            stem_part = word[: len(word) - len(rule.suffix)]
            return stem_part + rule.new if rule.holds(stem_part) else word
    return word


def _always(rest: str) -> bool:
    return True


def _plural(word: str) -> str:
    if word.endswith("ies") and len(word) == 4:
        return word[:-1]
    return _first(word, [Rule(*pair, _always) for pair in _PLURALS])


_PLURALS = (("sses", "ss"), ("ies", "i"), ("ss", "ss"), ("s", ""))


def _past(word: str) -> str:
    if word.endswith("ied"):
        return word[:-1] if len(word) == 4 else word[:-2]
    if word.endswith("eed"):
        return word[:-1] if measure(word[:-3]) > 0 else word
    for suffix in ("ed", "ing"):
        stem_part = word[: -len(suffix)]
        if word.endswith(suffix) and _has_vowel(stem_part):
            return _restored(stem_part)
    return word


def _restored(rest: str) -> str:
    """A stem whose -ed or -ing was removed, with its e or its single consonant again."""
    if rest.endswith(("at", "bl", "iz")):
        return rest + "e"
    last = len(rest) - 1
    if len(rest) >= 2 and rest[-1] == rest[-2] and is_consonant(rest, last):
        return rest if rest[-1] in "lsz" else rest[:-1]
    return rest + "e" if measure(rest) == 1 and _ends_short(rest) else rest


def _final_y(word: str) -> str:
    stem_part = word[:-1]
    swap = word.endswith("y") and len(stem_part) > 1 and is_consonant(stem_part, len(stem_part) - 1)
    return stem_part + "i" if swap else word


def _double_suffix(word: str) -> str:
    if word.endswith("alli") and measure(word[:-4]) > 0:
        return _double_suffix(word[:-2])
    return _first(word, _DOUBLE)


def _rules(table: str) -> list[Rule]:
    """The rules of a table: `suffix:new`, with spaces between."""
    pairs = (entry.split(":") for entry in table.split())
    return [Rule(suffix, new) for suffix, new in pairs]


_DOUBLE = [
    *_rules(
        "ational:ate tional:tion enci:ence anci:ance izer:ize bli:ble alli:al entli:ent eli:e "
        "ousli:ous ization:ize ation:ate ator:ate alism:al iveness:ive fulness:ful ousness:ous "
        "aliti:al iviti:ive biliti:ble fulli:ful"
    ),
    Rule("logi", "log", lambda rest: measure(rest + "l") > 0),
]


def _single_suffix(word: str) -> str:
    return _first(word, _SINGLE)


_SINGLE = _rules("icate:ic ative: alize:al iciti:ic ical:ic ful: ness:")


def _long(rest: str) -> bool:
    return measure(rest) > 1


def _bare(word: str) -> str:
    return _first(word, _BARE)


def _long_rules(suffixes: str) -> list[Rule]:
    """Rules that remove suffixes from long words."""
    return [Rule(suffix, "", _long) for suffix in suffixes.split()]


_BARE = [
    *_long_rules("al ance ence er ic able ible ant ement ment ent"),
    Rule("ion", "", lambda rest: _long(rest) and rest[-1] in "st"),
    *_long_rules("ou ism ate iti ous ive ize"),
]


def _final_e(word: str) -> str:
    stem_part = word[:-1]
    drop = word.endswith("e") and (
        _long(stem_part) or (measure(stem_part) == 1 and not _ends_short(stem_part))
    )
    return stem_part if drop else word


def _ll(word: str) -> str:
    return word[:-1] if word.endswith("ll") and _long(word[:-1]) else word
