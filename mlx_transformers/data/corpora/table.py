"""The table of built-in corpora."""

from .arithmetic import Arithmetic
from .bible import BibleFrench, BibleGerman, BibleParaphrases, BibleSpanish
from .brackets import Brackets
from .calculator import CalculatorCalls
from .catalogues import CataloguesFrench
from .copying import Copy
from .corpus import Corpus
from .dialogue import Dialogue
from .digits import Digits
from .docstrings import Docstrings
from .emoji import EmojiFrench, EmojiGerman
from .emoji_pictures import EmojiPictures
from .evals import Entities, Instructions, Populations, Sarcasm
from .generated import GeneratedCorpus
from .headlines import Headlines
from .icons import Icons
from .in_context import InContext
from .induction import Induction
from .linear_regression import LinearRegression
from .listops import ListOps
from .manners import Manners
from .mqar import Mqar
from .potts import Potts
from .pronunciation import Pronunciation
from .selective_copy import SelectiveCopy
from .sentiment import Sentiment
from .shakespeare import Shakespeare
from .spoken import Spoken
from .stdlib import Stdlib

TEXTS: tuple[type[Corpus], ...] = (Shakespeare, Stdlib)
"""Running text."""

RECORDS: tuple[type[Corpus], ...] = (
    Docstrings,
    Pronunciation,
    EmojiGerman,
    EmojiFrench,
    CataloguesFrench,
    BibleGerman,
    BibleFrench,
    BibleSpanish,
    Headlines,
    Sentiment,
    Sarcasm,
    Entities,
    Populations,
    Instructions,
    BibleParaphrases,
    Digits,
    Icons,
    EmojiPictures,
    Dialogue,
)
"""Records with named fields: pairs first, then labelled texts and words, paraphrases, pictures."""

GENERATED: tuple[type[GeneratedCorpus], ...] = (
    Mqar,
    SelectiveCopy,
    Induction,
    Copy,
    Brackets,
    ListOps,
    Arithmetic,
    CalculatorCalls,
    Manners,
    Potts,
    InContext,
    LinearRegression,
)
"""Synthetic tasks, which take `data.settings`."""

SPOKEN: tuple[type[GeneratedCorpus], ...] = (Spoken,)
"""Corpora that a program of this machine makes, with `data.settings`."""

CORPORA: dict[str, type[Corpus]] = {
    corpus.name: corpus for corpus in (*TEXTS, *RECORDS, *GENERATED, *SPOKEN)
}
"""All corpora by name."""
