"""Rows of the recurrent layers: not a slot, but they have fields and wiring."""

from .cells import GRU, LSTM, RNN
from .suite import Change, Row, everything, past

TWO = {"cell": LSTM, "n_layers": 2}

ROWS = [
    Row("recurrence", "two layers", TWO, both=past),
    Row(
        "recurrence",
        "three of other widths",
        {"cell": GRU, "n_layers": 3, "hidden_dim": 10, "dropout": 0.3},
        both=past,
    ),
    Row("recurrence", "locked dropout", TWO | {"dropout": 0.3, "locked": True}, both=past),
    Row(
        "recurrence",
        "both ways",
        {"cell": RNN, "n_layers": 1, "bidirectional": True},
        sees=everything,
        whole=True,
    ),
]

CHANGES = {
    "recurrence": {
        "cell": GRU,
        "n_layers": 3,
        "hidden_dim": 10,
        "bidirectional": True,
        "dropout": 0.5,
        "locked": Change(True, row="three of other widths"),
    }
}
