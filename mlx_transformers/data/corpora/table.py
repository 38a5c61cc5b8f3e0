"""Every built-in corpus by name."""

from .bible import BibleFrench, BibleGerman, BibleParaphrases, BibleSpanish
from .catalogues import CataloguesFrench
from .docstrings import Docstrings
from .emoji import EmojiFrench, EmojiGerman
from .evals import Entities, Populations, Sarcasm
from .headlines import Headlines
from .pronunciation import Pronunciation
from .records import RecordCorpus
from .sentiment import Sentiment
from .shakespeare import Shakespeare
from .stdlib import Stdlib

Corpus = type[Shakespeare] | type[Stdlib] | type[RecordCorpus]

TEXTS: tuple[Corpus, ...] = (Shakespeare, Stdlib)
"""Running text."""

RECORDS: tuple[Corpus, ...] = (
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

CORPORA: dict[str, Corpus] = {corpus.name: corpus for corpus in (*TEXTS, *RECORDS)}
"""All of them."""
