"""Rows of the slot `cell`."""

from .suite import Row, past

RNN, LSTM, GRU = {"kind": "rnn"}, {"kind": "lstm"}, {"kind": "gru"}


def cell(name: str, config: dict, compiled: bool = False) -> Row:
    return Row("cell", name, config, both=past, compiled=compiled)


ROWS = [
    cell("rnn", RNN, compiled=True),
    cell("rnn of rectifiers", RNN | {"activation": "relu"}),
    cell("lstm", LSTM, compiled=True),
    cell("lstm that remembers", LSTM | {"forget_bias": 1.0}),
    cell("lstm weight drop", LSTM | {"weight_drop": 0.4}),
    cell("gru", GRU, compiled=True),
    cell("gru reset after", GRU | {"reset": "after", "weight_drop": 0.3}),
]

CHANGES = {
    "rnn": {"activation": "relu", "weight_drop": 0.5},
    "lstm": {"forget_bias": 2.0, "weight_drop": 0.5},
    "gru": {"reset": "after", "weight_drop": 0.5},
}
