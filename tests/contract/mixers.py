"""Rows of the slot `mixer`."""

from . import decayed, gated, low_rank, sparse
from .suite import Change, Row, everything, itself, last, past

HEADS = {"kind": "attention", "n_heads": 4}
CROSS = {"kind": "cross_attention", "n_heads": 4}
RMS = {"kind": "rms_norm"}
LATENT = {
    "kind": "latent",
    "n_heads": 4,
    "kv_rank": 6,
    "nope_dim": 5,
    "rope_dim": 4,
    "value_dim": 3,
    "norm": RMS,
}


def attention(name: str, /, **fields: object) -> Row:
    sees = {"sees": last(fields["window"])} if fields.get("window") else {}
    return Row("mixer", name, {**HEADS, **fields}, **sees)


def convolution(name: str, /, *, kernel: int, dilation: int = 1, **fields: object) -> Row:
    kind = {"kind": "convolution", "kernel": kernel, **fields}
    span, after = (kernel - 1) * dilation, (kernel - 1) // 2 * dilation
    return Row(
        "mixer",
        name,
        kind | ({"dilation": dilation} if kind["kind"] != "convolution" else {}),
        sees=lambda t, s: s in range(t - span, t + 1, dilation),
        both=lambda t, s: s in range(t - span + after, t + after + 1, dilation),
        compiled=kind["kind"] != "convolution",
    )


def dilated(name: str, /, **fields: object) -> Row:
    return convolution(name, kind="dilated_convolution", **fields)


APART = HEADS | {"kind": "disentangled"}
TABLE = {"kind": "disentangled", "span": 4, "max_distance": 8}
XL = {"kind": "transformer_xl", "n_heads": 4}


def apart(name: str, /, **fields: object) -> Row:
    sees = {"sees": last(fields["window"])} if fields.get("window") else {}
    # P_k's bias adds the same to every score of a query.
    silent = ("pos_k.bias",)
    return Row("mixer", name, {**APART, **fields}, position=TABLE, silent=silent, **sees)


def recurrence(name: str, /, **fields: object) -> Row:
    """A kind that reads the past alone in every pass, chunk by chunk."""
    compiled = bool(fields.pop("compiled", False))
    return Row("mixer", name, fields, both=past, pairs=False, compiled=compiled)


S4D = {"kind": "s4d", "state_dim": 4, "chunk": 4}
MAMBA = {"kind": "mamba", "state_dim": 3, "activation": "silu"}
# Steps are limited so that a random decay forgets little within a short row.
MAMBA2 = {
    "kind": "mamba2",
    "head_dim": 4,
    "state_dim": 3,
    "activation": "silu",
    "dt_at_least": 0.01,
    "dt_at_most": 0.4,
    "chunk": 4,
}
AFT = {"kind": "attention_free", "n_heads": 2, "window": 3}
SHARED = {
    "kind": "shared_block",
    "attention": HEADS,
    "hidden_dim": 12,
    "activation": "gelu",
    "adapter_rank": 3,
    "norm": RMS,
    "mixer": S4D,
}
BESIDE = {"kind": "side_by_side", "first": S4D, "second": {"kind": "short_convolution"}}

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
    Row(
        "mixer",
        "chunks",
        HEADS | {"chunk": 4},
        sees=lambda t, s: s <= t and s // 4 == t // 4,
        both=lambda t, s: s // 4 == t // 4,
        compiled=True,
    ),
    attention("chunks longer than the sequence", chunk=64),
    attention("qk norm", qk_norm={"kind": "rms_norm"}),
    attention("qk layer norm", qk_norm={"kind": "layer_norm"}),
    attention("softcap", softcap=2.0),
    attention("scale", scale=0.2),
    attention("head width of its own", head_dim=6),
    attention("biases", bias=True, out_bias=True),
    attention("gated", gate="relu", n_kv_heads=2, bias=True),
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
    attention("qk norm of each head", qk_norm={"kind": "layer_norm"}, qk_norm_over="each_head"),
    attention("qk norm of all heads", qk_norm={"kind": "rms_norm"}, qk_norm_over="width"),
    attention("qk norm last", qk_norm={"kind": "rms_norm"}, qk_norm_last=True),
    attention("clipped", clip=0.5, n_kv_heads=2),
    attention("clipped once normed", clip=0.5, qk_norm={"kind": "rms_norm"}),
    Row("mixer", "an odd share turned", HEADS, position={"kind": "rope", "fraction": 0.8}),
    attention("sinks", sinks=True, n_kv_heads=2),
    Row("mixer", "alibi", HEADS | {"n_kv_heads": 2}, position={"kind": "alibi"}),
    Row("mixer", "buckets", HEADS, position={"kind": "buckets", "n_heads": 4}),
    Row("mixer", "xpos", HEADS, position={"kind": "xpos", "base": 32.0}),
    Row("mixer", "shaw", HEADS, position={"kind": "shaw", "n_heads": 4, "span": 4}),
    Row("mixer", "transformer_xl", HEADS | {"n_kv_heads": 2}, position=XL),
    Row("mixer", "windows of transformer_xl", HEADS | {"window": 4}, sees=last(4), position=XL),
    Row("mixer", "cross", CROSS, sees=itself),
    apart("disentangled"),
    apart("disentangled with biases", bias=True, k_bias=False, out_bias=True, pos_k_bias=False),
    apart("disentangled in groups", n_kv_heads=2, shared=True, bias=True, window=4),
    apart("disentangled c2p", reads=["c2p"], dropout=0.2, table_dropout=0.3),
    apart("disentangled p2c", reads=["p2c"], qk_norm=RMS),
    Row("mixer", "disentangled without places", APART | {"reads": []}),
    convolution("convolution", kernel=3),
    convolution("convolution in groups", kernel=4, groups=4, activation="gelu"),
    convolution("convolution with dropout", kernel=2, dropout=0.3),
    Row("mixer", "fourier", {"kind": "fourier"}, sees=everything, whole=True, pads=False),
    Row("mixer", "latent", LATENT, compiled=True),
    Row("mixer", "latent queries", LATENT | {"q_rank": 7, "bias": True, "out_bias": True}),
    Row("mixer", "latent dropout", LATENT | {"dropout": 0.3, "scale": 0.2}),
    Row("mixer", "latent without positions", LATENT, position={"kind": "none"}),
    Row("mixer", "latent alibi", LATENT, position={"kind": "alibi"}),
    dilated("dilated_convolution", kernel=2),
    dilated("rectified dilated_convolution", kernel=2, dilation=3, unit="relu", hidden_dim=12),
    dilated("dilated_convolution of three", kernel=3, dilation=2, bias=False),
    Row("mixer", "cross of groups", CROSS | {"n_kv_heads": 2, "qk_norm": RMS}, sees=itself),
    Row(
        "mixer",
        "short_convolution",
        {"kind": "short_convolution"},
        sees=last(3),
        both=last(3),
        pairs=False,
        compiled=True,
    ),
    recurrence("side_by_side", **BESIDE),
    Row("mixer", "shared_block", SHARED, both=everything),
    recurrence("s4d", **S4D, compiled=True),
    recurrence("s4d bilinear", **S4D, discretization="bilinear", gated=False, dropout=0.2),
    recurrence("s4", kind="s4", state_dim=4, chunk=4, compiled=True),
    recurrence("mamba", **MAMBA, compiled=True),
    recurrence("mamba normed", **MAMBA, norm=RMS, out_bias=True, conv_bias=False),
    recurrence("mamba2", **MAMBA2, compiled=True),
    recurrence(
        "mamba2 in groups",
        **MAMBA2,
        n_groups=2,
        norm_groups=4,
        D_per_feature=True,
        gated_norm="norm_first",
        out_bias=True,
        conv_bias=False,
    ),
    recurrence("mamba2 without norm", **MAMBA2, gated_norm="none"),
    recurrence("h3", kind="h3", state_dim=4, chunk=4),
    recurrence("h3 of heads", kind="h3", head_dim=2, state_dim=4, shift=2, chunk=4, compiled=True),
    Row("mixer", "attention free", AFT),
    Row("mixer", "simple attention free", {"kind": "attention_free"}, pairs=False, compiled=True),
    recurrence("s4 legt", kind="s4", state_dim=4, measure="legt", gated=False, dropout=0.2),
    *gated.ROWS,
    *decayed.ROWS,
    *sparse.ROWS,
    *low_rank.ROWS,
]

FIELDS = {
    "n_heads": 2,
    "n_kv_heads": 2,
    "head_dim": 8,
    "window": 3,
    "chunk": 3,
    "qk_norm": {"kind": "rms_norm"},
    "qk_norm_over": Change("width", row="qk norm"),
    "qk_norm_last": Change(True, row="qk norm"),
    "clip": 0.2,
    "sinks": True,
    "gate": "sigmoid",
    "softcap": 1.0,
    "scale": 0.9,
    "bias": True,
    "out_bias": True,
    "dropout": 0.5,
}

STATE_SPACE = {
    "state_dim": 6,
    "dt_min": 0.01,
    "dt_max": 0.5,
    "gated": False,
    "dropout": 0.5,
    "chunk": Change(2, result=False),
}

SELECTIVE = {
    "inner_dim": 24,
    "state_dim": 5,
    "conv_width": 3,
    "activation": "gelu",
    "dt_min": 0.01,
    "dt_max": 0.5,
    "dt_floor": 0.05,
    "bias": True,
    "out_bias": True,
    "conv_bias": False,
}

CHANGES = {
    **gated.CHANGES,
    **decayed.CHANGES,
    **low_rank.CHANGES,
    "dilated_convolution": {
        "kernel": 3,
        "dilation": 2,
        "hidden_dim": 10,
        "unit": "relu",
        "bias": False,
    },
    "attention": FIELDS,
    "cross_attention": {
        name: value
        for name, value in FIELDS.items()
        if name not in ("window", "chunk", "qk_norm_last", "gate")
    }
    | {"qk_norm_over": Change("width", row="cross of groups")},
    "disentangled": FIELDS
    | {
        "qk_norm_over": Change("width", row="disentangled p2c"),
        # its positions turn nothing, so that before and after are the same
        "qk_norm_last": Change(True, row="disentangled p2c", result=False),
        "reads": ["c2p"],
        "shared": True,
        "pos_k_bias": False,
        "k_bias": Change(False, row="disentangled in groups"),
        "table_dropout": 0.5,
    },
    "short_convolution": {"kernel": 4, "bias": True},
    "shared_block": {
        "attention": HEADS | {"n_kv_heads": 2},
        "hidden_dim": 10,
        "activation": "relu",
        "bias": True,
        "adapter_rank": 2,
        # of a stack: tests/models/test_shared_block.py
        "n_blocks": Change(2, result=False),
        "norm": {"kind": "layer_norm"},
        "mixer": MAMBA,
    },
    "side_by_side": {"first": MAMBA, "second": MAMBA},
    "mamba": SELECTIVE | {"dt_rank": 3, "norm": {"kind": "rms_norm"}},
    "mamba2": SELECTIVE
    | {
        "head_dim": 8,
        "n_groups": 2,
        "dt_at_least": 0.2,
        "dt_at_most": 0.9,
        "D_per_feature": True,
        "gated_norm": "none",
        "norm_groups": 2,
        "eps": 0.5,
        "chunk": Change(2, result=False),
    },
    "attention_free": {"n_heads": 4, "window": 2},
    "h3": {name: STATE_SPACE[name] for name in ("state_dim", "dt_min", "dt_max", "chunk")}
    | {"head_dim": 4, "shift": 3},
    "s4d": STATE_SPACE | {"start": "inv", "discretization": "bilinear"},
    "s4": STATE_SPACE | {"measure": "fout"},
    "convolution": {
        "kernel": 4,
        "groups": 2,
        "activation": "relu",
        "dropout": 0.5,
    },
    "fourier": {},
    "latent": {
        "n_heads": 2,
        "kv_rank": 5,
        "q_rank": 8,
        "nope_dim": 4,
        "rope_dim": 2,
        "value_dim": 4,
        "norm": {"kind": "layer_norm"},
        "scale": 0.5,
        "bias": True,
        "out_bias": True,
        "dropout": 0.5,
    },
    **sparse.CHANGES,
}
