"""Rows of the slot `objective`."""

from .suite import Change, Row

CLM = {"kind": "clm"}

ROWS = [
    Row("objective", "plain", CLM),
    Row("objective", "label smoothing", CLM | {"label_smoothing": 0.2}),
    Row("objective", "z loss", CLM | {"z_loss": 0.05}),
    Row("objective", "chunk", CLM | {"chunk": 4}),
    Row("objective", "all at once", CLM | {"label_smoothing": 0.1, "z_loss": 0.1, "chunk": 7}),
]

CHANGES = {
    "clm": {"label_smoothing": 0.3, "z_loss": 0.1, "chunk": Change(4, result=False)},
}
