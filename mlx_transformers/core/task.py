"""The tasks that join models and objectives: an objective trains the models that share one."""

from typing import Literal

Task = Literal["causal_lm", "encode", "seq2seq", "detect_replaced"]
"""Tasks of models: predict the next token, encode a whole text, write a target
for a source, or detect replaced tokens."""

GENERATING: frozenset[Task] = frozenset({"causal_lm", "seq2seq"})
"""Tasks whose models generate text."""
