"""The table of built-in corpora."""

from .bible import BibleFrench, BibleGerman, BibleParaphrases, BibleSpanish
from .catalogues import CataloguesFrench
from .corpus import Corpus
from .docstrings import Docstrings
from .emoji import EmojiFrench, EmojiGerman
from .evals import Entities, Populations, Sarcasm
from .headlines import Headlines
from .pronunciation import Pronunciation
from .sentiment import Sentiment
from .shakespeare import Shakespeare
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
    BibleParaphrases,
)
"""Records with named fields: pairs first, then labelled texts and words, then paraphrases."""

CORPORA: dict[str, type[Corpus]] = {corpus.name: corpus for corpus in (*TEXTS, *RECORDS)}
"""All corpora by name."""
