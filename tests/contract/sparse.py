"""Rows of the mixers with a sparse pattern of keys."""

from dataclasses import replace

from mlx_transformers.ops.big_bird import random_blocks

from .suite import LENGTH, Change, Row, Sees, everything

HEADS = {"n_heads": 4}
RMS = {"kind": "rms_norm"}


def local(name: str, /, w: int = 3, back: int = 1, ahead: int = 1, **fields: object) -> Row:
    def joined(t: int, s: int) -> bool:
        steps, n = t // w - s // w, -(-LENGTH // w)
        wrapped = (0, n, -n) if fields.get("ring") else (0,)
        return any(-ahead <= steps + more <= back for more in wrapped)

    def near(t: int, s: int) -> bool:
        within = -ahead <= t // w - s // w <= back
        return within and (not fields.get("exact_window") or t - s <= w * back)

    kind = {"kind": "local_attention", "window": w, "look_backward": back, "look_forward": ahead}
    return sparse(name, kind | fields, near, joined)


def sparse(name: str, kind: dict, near: Sees, both: Sees, **facts: object) -> Row:
    """A row of a pattern: `near` says which keys before it a causal query sees.

    A query weighs the keys it sees by its own token, where there are two or more.
    """

    def causal(t: int, s: int) -> bool:
        weighs = sum(near(t, key) for key in range(t + 1)) > 1
        return s <= t and (near(t, s) or (s == t and weighs))

    return Row("mixer", name, HEADS | kind, sees=causal, both=both, sparse=True, **facts)  # type: ignore[arg-type]


def factorised(name: str, /, pattern: str, reads: str = "both", **fields: object) -> Row:
    size, c, verts = 3, int(fields.get("summary", 1)), int(fields.get("verts", 1))  # type: ignore[call-overload]

    def near(t: int, s: int) -> bool:
        return abs(t - s) < size if pattern == "strided" else t // size == s // size

    def far(t: int, s: int) -> bool:
        return (t - s) % size == 0 if pattern == "strided" else s % size >= size - c * verts

    def sees(t: int, s: int) -> bool:
        return (reads != "far" and near(t, s)) or (reads != "near" and far(t, s))

    kind = {"kind": "sparse_transformer", "pattern": pattern, "stride": size, "reads": reads}
    return sparse(name, kind | fields, sees, lambda t, s: s == t or sees(t, s))


def streaming(name: str, /, first: int = 2, window: int = 3, **fields: object) -> Row:
    def sees(t: int, s: int) -> bool:
        return abs(t - s) < window or (s < first and s < t)

    kind = {"kind": "streaming_attention", "first": first, "window": window}
    return sparse(name, kind | fields, sees, sees)


def longformer(name: str, /, w: int = 2, n: int | None = 1, **fields: object) -> Row:
    dilation = fields.get("dilation", 1)
    steps = set(dilation) if isinstance(dilation, list) else {dilation}

    def near(t: int, s: int) -> bool:
        return any((t - s) % d == 0 and abs(t - s) < w * d for d in steps)

    kind = HEADS | {"kind": "longformer", "window": w, "n_global": n} | fields
    if n is None:
        return sparse(name, kind, near, near)
    return whole(name, kind, lambda t, s: t < n or s < n or near(t, s))


def big_bird(name: str, /, **fields: object) -> Row:
    """A row of blocks of one token, so that the row of 9 is not read in full."""
    drawn = random_blocks(LENGTH, 1, 1, 4, int(fields.get("seed", 0)), 64)[:, :, 0]  # type: ignore[call-overload]

    def sees(t: int, s: int) -> bool:
        ends = (0, LENGTH - 1)
        reads_random = fields.get("random_in_eval") is not False and fields.get("n_random") != 0
        random = reads_random and s in drawn[:, t - 1 : t]
        return t in ends or s in ends or abs(t - s) < 2 or random

    kind = HEADS | {"kind": "big_bird", "block": 1, "n_random": 1} | fields
    # padding moves the last block, and which blocks are random
    return whole(name, kind, sees, pads=False)


def whole(name: str, kind: dict, sees: Sees, **facts: object) -> Row:
    return Row("mixer", name, kind, sees=sees, whole=True, sparse=True, **facts)  # type: ignore[arg-type]


SUMMARISED = HEADS | {"kind": "transient_global", "window": 3, "block": 4, "norm": RMS}
BUCKETS = {"kind": "buckets", "n_heads": 4, "n_buckets": 6, "max_distance": 6, "summaries": True}

ROWS = [
    longformer("longformer"),
    longformer("longformer dilated", n=2, dilation=[1, 1, 2, 3], dropout=0.3, n_kv_heads=2),
    longformer("longformer window", w=3, n=None, dilation=[2, 1, 2, 1], n_kv_heads=2),
    longformer("longformer normed", n=None, dilation=2, qk_norm=RMS, sinks=True),
    big_bird("big_bird"),
    big_bird("big_bird evaluated", random_in_eval=False, seed=3, dropout=0.3, qk_norm=RMS),
    big_bird("big_bird without random blocks", n_random=0),
    whole("big_bird in full", HEADS | {"kind": "big_bird", "block": 2}, everything),
    whole("transient_global", SUMMARISED, everything, position=BUCKETS),
    whole("transient_global turned", SUMMARISED | {"n_kv_heads": 2, "qk_norm": RMS}, everything),
    local("local_attention"),
    local("local_attention far back", back=2, ahead=0, n_kv_heads=2, sinks=True),
    # padding moves the block that the first one follows
    replace(local("local_attention in a ring", w=2, ahead=0, ring=True), pads=False),
    local("local_attention exact", w=2, back=2, exact_window=True, softcap=2.0),
    local("local_attention of odd blocks", w=4, dropout=0.3, qk_norm=RMS),
    factorised("strided", pattern="strided"),
    factorised("strided in halves", pattern="strided", reads="split", n_kv_heads=2),
    factorised("strided far", pattern="strided", reads="far", dropout=0.3),
    factorised("strided near", pattern="strided", reads="near", sinks=True),
    factorised("strided normed", pattern="strided", qk_norm=RMS, n_kv_heads=2),
    factorised("fixed", pattern="fixed", summary=2),
    factorised("fixed by heads", pattern="fixed", verts=2, bias=True, clip=0.5),
    factorised("fixed far", pattern="fixed", reads="far"),
    streaming("streaming_attention"),
    streaming("streaming_attention sinks", first=1, window=2, sinks=True, n_kv_heads=2),
    streaming("streaming_attention dropout", dropout=0.3, qk_norm=RMS),
]

FIELDS = {
    "n_heads": 2,
    "n_kv_heads": 2,
    "head_dim": 8,
    "qk_norm": RMS,
    "clip": 0.2,
    "sinks": True,
    "softcap": 1.0,
    "scale": 0.9,
    "bias": True,
    "out_bias": True,
    "dropout": 0.5,
}

CHANGES = {
    "longformer": FIELDS
    | {
        "qk_norm_over": Change("width", row="longformer normed"),
        "window": 3,
        "dilation": Change(3, row="longformer window"),
        "n_global": 2,
    },
    "big_bird": FIELDS
    | {
        "qk_norm_over": Change("width", row="big_bird evaluated"),
        "block": 2,
        "n_random": 2,
        "seed": 5,
        "random_in_eval": False,
        "longest": Change(64, result=False),
    },
    "transient_global": FIELDS
    | {
        "n_heads": Change(2, row="transient_global turned"),
        "qk_norm_over": Change("width", row="transient_global turned"),
        "window": 2,
        "block": 3,
        "norm": {"kind": "layer_norm"},
    },
    "local_attention": FIELDS
    | {
        "qk_norm_over": Change("width", row="local_attention of odd blocks"),
        "window": 2,
        "look_backward": 2,
        "look_forward": Change(2, result=False),
        "ring": Change(True, result=False),  # the pass of this test is causal
        "exact_window": True,
        "pad_to": Change(6, row="local_attention in a ring", result=False),  # likewise
    },
    "sparse_transformer": FIELDS
    | {
        "qk_norm_over": Change("width", row="strided normed"),
        "pattern": "fixed",
        "stride": 4,
        "reads": "split",
        "summary": Change(1, row="fixed"),
        "verts": Change(1, row="fixed by heads"),
    },
    "streaming_attention": FIELDS
    | {
        "qk_norm_over": Change("width", row="streaming_attention dropout"),
        "first": 1,
        "window": 4,
    },
}
