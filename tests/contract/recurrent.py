"""Rows of the recurrent models."""

from .cells import GRU, LSTM, RNN
from .suite import DIM, Row, past

LM = {
    "kind": "recurrent",
    "dim": DIM,
    "embed": {"kind": "token"},
    "stack": {"cell": LSTM, "n_layers": 2},
    "head": {"kind": "lm", "tied": True, "bias": True},
    "init": {"kind": "xavier"},
}
AWD = LM | {
    "stack": {
        "cell": LSTM | {"weight_drop": 0.5},
        "n_layers": 3,
        "hidden_dim": 20,
        "dropout": 0.3,
        "locked": True,
    },
    "word_dropout": 0.1,
    "input_dropout": 0.4,
    "output_dropout": 0.4,
    "activation_penalty": 2.0,
    "slowness_penalty": 1.0,
}


def model(name: str, config: dict, compiled: bool = False) -> Row:
    return Row("model", name, config, both=past, compiled=compiled)


ROWS = [
    model("lstm", LM, compiled=True),
    model("rnn", LM | {"stack": {"cell": RNN, "n_layers": 1}}),
    model("gru", LM | {"stack": {"cell": GRU, "n_layers": 2, "hidden_dim": 12}}),
    model("awd lstm", AWD),
]

CHANGES = {
    "recurrent": {
        "dim": 20,
        "vocab_size": 17,
        "embed": {"kind": "token", "scale": "sqrt_dim"},
        "stack": {"cell": LSTM, "n_layers": 1},
        "head": {"kind": "lm", "tied": False},
        "init": {"kind": "fan_in"},
        "word_dropout": 0.5,
        "input_dropout": 0.5,
        "output_dropout": 0.5,
        "activation_penalty": 1.0,
        "slowness_penalty": 1.0,
    }
}
