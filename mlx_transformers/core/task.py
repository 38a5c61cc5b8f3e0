"""The tasks that join models and objectives: an objective trains the models that share one."""

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
