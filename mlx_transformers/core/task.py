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
    "causal_lm": "a decoder, which predicts the next token",
    "encode": "an encoder, which reads text and writes none",
    "seq2seq": "an encoder-decoder, which writes a target for a source",
    "detect_replaced": "an encoder, which finds replaced tokens and writes none",
    "see": "an encoder of pictures",
    "rebuild": "a masked autoencoder of pictures",
    "match": "an encoder of pictures and texts, which compares them",
    "listen": "a model of speech recognition, which writes down sound",
    "word_vectors": "a table of word vectors",
    "reconstruct": "an autoencoder of pictures",
}
"""Noun phrases for the models of each task, for messages."""


def described(tasks: Collection[Task]) -> str:
    """Name a model of these tasks in a message, as in "an encoder of pictures"."""
    return " and ".join(text for task, text in MODELS.items() if task in tasks)


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
