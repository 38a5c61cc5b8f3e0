"""Rows of the slot `objective`."""

import numpy as np

from .suite import VOCAB, Change, Row

CLM = {"kind": "clm"}

SEQ2SEQ = {"kind": "seq2seq"}

_rng = np.random.default_rng(3)
VALID = np.arange(7)[None, :] < np.array([7, 4])[:, None]
WEIGHTS = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], np.float32)

BATCHES: dict[str, dict[str, np.ndarray]] = {
    "seq2seq": {
        "source": _rng.integers(0, VOCAB, (2, 7)),
        "source_valid": VALID,
        "tokens": _rng.integers(0, VOCAB, (2, 6)),
        "weights": WEIGHTS,
    },
}
"""A batch for each kind that reads more than running text."""

ROWS = [
    Row("objective", "plain", CLM),
    Row("objective", "label smoothing", CLM | {"label_smoothing": 0.2}),
    Row("objective", "z loss", CLM | {"z_loss": 0.05}),
    Row("objective", "chunk", CLM | {"chunk": 4}),
    Row("objective", "seq2seq", SEQ2SEQ),
    Row("objective", "all at once", CLM | {"label_smoothing": 0.1, "z_loss": 0.1, "chunk": 7}),
]

CHANGES = {
    "seq2seq": {"label_smoothing": 0.3, "z_loss": 0.1, "chunk": Change(4, result=False)},
    "clm": {"label_smoothing": 0.3, "z_loss": 0.1, "chunk": Change(4, result=False)},
}
