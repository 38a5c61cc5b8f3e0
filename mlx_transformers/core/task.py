"""The tasks that join models and objectives: an objective trains the models that share one."""

from collections.abc import Collection
from typing import Literal

Task = Literal[
    "causal_lm",
    "encode",
    "seq2seq",
    "detect_replaced",
    "see",
    "rebuild",
    "match",
    "listen",
    "word_vectors",
    "reconstruct",
]
"""Tasks of models: predict the next token, encode a whole text, write a target
for a source, detect replaced tokens, encode a picture, rebuild masked patches of one, compare
pictures with texts, transcribe speech, give a vector to each word, or decode a picture from few
tokens."""

MODELS: dict[Task, str] = {
    "causal_lm": "a decoder",
    "encode": "an encoder",
    "seq2seq": "an encoder-decoder",
    "detect_replaced": "a detector of replaced tokens",
    "see": "an encoder of pictures",
    "rebuild": "a masked autoencoder of pictures",
    "match": "an encoder of pictures and texts",
    "listen": "a speech recognition model",
    "word_vectors": "a table of word vectors",
    "reconstruct": "an autoencoder of pictures",
}
"""Noun phrases for the models of each task, for messages."""


def described(tasks: Collection[Task]) -> str:
    """Name a model in a message by its first task, as in "an encoder of pictures"."""
    return next(text for task, text in MODELS.items() if task in tasks)


GENERATING: frozenset[Task] = frozenset({"causal_lm", "seq2seq"})
"""Tasks whose models generate text."""

MEASURED = (
    "classification",
    "masked",
    "tagging",
    "answers",
    "contacts",
    "transcription",
    "translation",
    "summarization",
    "retrieval",
    "captions",
    "reconstruction",
    "drawings",
)
"""Tasks of `mlxt eval --task`, which verbs/tasks measures; named here for the command line,
which starts without MLX."""
