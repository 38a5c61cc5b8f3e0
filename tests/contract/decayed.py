"""Rows of mixers whose heads keep a matrix of keys by values: retention, GLA, delta rules."""

from .suite import Change, Row, past

RMS = {"kind": "rms_norm"}


def recurrent(name: str, /, kind: str, *, compiled: bool = False, **fields: object) -> Row:
    """A mixer of two heads that reads the past alone, whatever the pass, in chunks of 4 tokens.

    Its gate is one that test_costs.py can export.
    """
    return Row(
        "mixer",
        name,
        {"kind": kind, "n_heads": 2, "chunk": 4, "gate": "relu", **fields},
        both=past,
        pairs=False,
        compiled=compiled,
    )


ROWS = [
    recurrent("retention", "retention", compiled=True),
    recurrent("retention of widths", "retention", key_dim=8, value_dim=12, norm=RMS),
    recurrent("retention of all pairs", "retention", parallel=True, norm=RMS | {"eps": 1e-12}),
    Row(
        "mixer",
        "linear attention",
        {"kind": "linear_attention", "n_heads": 2, "chunk": 4},
        pairs=False,
    ),
    Row(
        "mixer",
        "based",
        {"kind": "linear_attention", "n_heads": 2, "key_dim": 6, "features": "taylor", "chunk": 4},
        pairs=False,
    ),
    recurrent("gla", "gla", gate_rank=3),
    recurrent("gla in one chunk of tiles", "gla", chunk=16, normaliser=2.0),
    recurrent("gla with a decay per head", "gla", decay="head", key_dim=12),
    recurrent("deltanet", "deltanet", gate=None, activation="relu"),
    recurrent("deltanet of a narrow gate", "deltanet", gate="tanh", out_rank=3, activation="relu"),
    recurrent(
        "deltanet that reflects", "deltanet", reflect=True, conv_width=None, activation="relu"
    ),
    recurrent("gated deltanet", "gated_deltanet", n_value_heads=4, value_dim=12, activation="relu"),
    recurrent("delta product", "gated_deltanet", corrections=2, activation="relu", reflect=True),
    recurrent("kimi delta", "gated_deltanet", decay="feature", gate_rank=3, activation="relu"),
    recurrent("kimi gate", "gated_deltanet", out_rank=3, activation="relu"),
    Row(
        "mixer",
        "slot attention",
        {"kind": "slot_attention", "n_heads": 2, "n_slots": 4, "chunk": 4, "activation": "relu"},
        both=past,
        pairs=False,
    ),
]

WIDTHS = {"n_heads": 4, "key_dim": 4, "value_dim": 6, "chunk": Change(8, result=False)}
GATED = WIDTHS | {"gate": "tanh", "norm": {"kind": "layer_norm"}}
DELTA = GATED | {
    "n_value_heads": 4,
    "conv_width": 3,
    "corrections": 2,
    "activation": "tanh",
    "reflect": True,
    "gate": "tanh",
    "out_rank": Change(2, row="kimi gate"),
}

CHANGES = {
    "retention": GATED | {"parallel": Change(False, row="retention of all pairs", result=False)},
    "linear_attention": {name: value for name, value in WIDTHS.items() if name != "value_dim"}
    | {"eps": 0.5, "features": "taylor"},
    "gla": GATED
    | {
        "decay": Change("head", row="gla in one chunk of tiles"),
        "gate_rank": 5,
        "normaliser": 3.0,
    },
    "deltanet": DELTA | {"out_rank": Change(2, row="deltanet of a narrow gate")},
    "gated_deltanet": DELTA
    | {
        "n_value_heads": 2,
        "value_dim": 8,
        "dt_min": 0.01,
        "dt_max": 0.2,
        "dt_floor": 0.05,
        "decay": "feature",
        "gate_rank": Change(5, row="kimi delta"),
    },
    "slot_attention": {
        "n_heads": 4,
        "n_slots": 3,
        "normaliser": 2.0,
        "activation": "tanh",
        "norm": {"kind": "layer_norm"},
        "chunk": Change(8, result=False),
    },
}
