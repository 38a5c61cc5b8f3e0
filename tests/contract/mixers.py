"""Rows of the slot `mixer`."""

from .suite import Row, last

HEADS = {"kind": "attention", "n_heads": 4}


def attention(name: str, /, **fields: object) -> Row:
    sees = {"sees": last(fields["window"])} if fields.get("window") else {}
    return Row("mixer", name, {**HEADS, **fields}, **sees)


ROWS = [
    Row("mixer", "multi-head", HEADS),
    attention("grouped-query", n_kv_heads=2),
    attention("multi-query", n_kv_heads=1),
    attention("window", window=4),
    # The softmax of a single score is 1, whatever the score.
    Row(
        "mixer",
        "window of one",
        HEADS | {"window": 1},
        sees=last(1),
        silent=("q.weight", "k.weight"),
    ),
    attention("window wider than the sequence", window=64),
    attention("qk norm", qk_norm={"kind": "rms_norm"}),
    attention("qk layer norm", qk_norm={"kind": "layer_norm"}),
    attention("softcap", softcap=2.0),
    attention("scale", scale=0.2),
    attention("head width of its own", head_dim=6),
    attention("biases", bias=True, out_bias=True),
    attention("dropout", dropout=0.3),
    Row(
        "mixer",
        "all at once",
        {
            **HEADS,
            "n_kv_heads": 2,
            "head_dim": 6,
            "window": 4,
            "qk_norm": {"kind": "rms_norm"},
            "softcap": 3.0,
            "scale": 0.5,
            "bias": True,
            "out_bias": True,
            "dropout": 0.2,
        },
        sees=last(4),
        compiled=True,
    ),
    Row("mixer", "without positions", HEADS, position={"kind": "none"}),
]

CHANGES = {
    "attention": {
        "n_heads": 2,
        "n_kv_heads": 2,
        "head_dim": 8,
        "window": 3,
        "qk_norm": {"kind": "rms_norm"},
        "softcap": 1.0,
        "scale": 0.9,
        "bias": True,
        "out_bias": True,
        "dropout": 0.5,
    },
}
