"""Rows of the recurrent models."""

from .aligns import ADDITIVE, LOCAL
from .cells import GRU, LSTM, RNN
from .suite import DIM, Change, Row, past

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


SEQ2SEQ = {
    "kind": "recurrent_seq2seq",
    "dim": DIM,
    "embed": {"kind": "token"},
    "encoder": {"cell": LSTM, "n_layers": 2},
    "decoder": {"cell": LSTM, "n_layers": 2},
    "head": {"kind": "lm", "tied": True, "bias": True},
    "init": {"kind": "xavier"},
}
READER = {"cell": GRU, "n_layers": 1, "bidirectional": True}
BAHDANAU = SEQ2SEQ | {
    "encoder": READER,
    "decoder": {"cell": GRU, "n_layers": 1},
    "bridge": "tanh",
    "align": ADDITIVE,
    "attend": "before",
}
LUONG = SEQ2SEQ | {
    "align": {"kind": "general"},
    "input_feeding": True,
    "decoder": SEQ2SEQ["decoder"] | {"dropout": 0.2},
    "dropout": 0.2,
}


def model(name: str, config: dict, compiled: bool = False) -> Row:
    return Row("model", name, config, both=past, compiled=compiled)


ROWS = [
    model("lstm", LM, compiled=True),
    model("rnn", LM | {"stack": {"cell": RNN, "n_layers": 1}}),
    model("gru", LM | {"stack": {"cell": GRU, "n_layers": 2, "hidden_dim": 12}}),
    model("awd lstm", AWD),
    model("seq2seq", SEQ2SEQ, compiled=True),
    model("bahdanau", BAHDANAU, compiled=True),
    model("luong", LUONG, compiled=True),
    model("luong without feeding", SEQ2SEQ | {"align": {"kind": "concat"}}),
    model("luong local", SEQ2SEQ | {"align": LOCAL}),
    model("two embeddings", SEQ2SEQ | {"shared": False}),
    model("scheduled sampling", BAHDANAU | {"sampling": {"share": 0.9}}),
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
    },
    "recurrent_seq2seq": {
        "dim": 20,
        "vocab_size": 17,
        "embed": {"kind": "token", "scale": "sqrt_dim"},
        "shared": False,
        "encoder": {"cell": LSTM, "n_layers": 2, "bidirectional": True},
        "decoder": {"cell": LSTM | {"forget_bias": 1.0}, "n_layers": 2},
        "bridge": "tanh",
        "align": {"kind": "dot"},
        "attend": Change("before", row="luong without feeding"),
        "input_feeding": Change(True, row="luong without feeding"),
        "dropout": 0.5,
        "sampling": {"share": 0.9},
        "head": {"kind": "lm", "tied": False},
        "init": {"kind": "fan_in"},
    },
}
