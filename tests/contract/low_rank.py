"""Rows of mixers by hashing, low rank and kernels."""

from dataclasses import replace

from .suite import Change, Row, everything

LINFORMER = {"kind": "linformer", "n_heads": 4, "rank": 5, "length": 64}
PERFORMER = {"kind": "performer", "n_heads": 4, "n_features": 6, "chunk": 4}
NYSTROM = {"kind": "nystrom", "n_heads": 4, "n_landmarks": 3}
COSFORMER = {"kind": "cosformer", "n_heads": 4, "length": 64, "chunk": 4}
LSH = {"kind": "lsh_attention", "n_heads": 4, "chunk": 16, "n_buckets": 2}


def linformer(name: str, /, **fields: object) -> Row:
    return Row("mixer", name, LINFORMER | fields, sees=everything, whole=True, pairs=False)


def performer(name: str, /, **fields: object) -> Row:
    # random features of rotated keys know absolute positions
    return Row("mixer", name, PERFORMER | fields, position={"kind": "none"}, pairs=False)


def cosformer(name: str, /, **fields: object) -> Row:
    # its features know positions themselves
    return Row("mixer", name, COSFORMER | fields, position={"kind": "none"}, pairs=False)


def nystrom(name: str, /, **fields: object) -> Row:
    config = NYSTROM | fields
    # landmarks are means of as many neighbours as the length gives them
    return Row("mixer", name, config, sees=everything, whole=True, pads=False, pairs=False)


def lsh(name: str, /, **fields: object) -> Row:
    # one chunk: hashing would make what is seen depend on the input (test_lsh.py)
    def sees(t: int, s: int) -> bool:
        return s <= t and (t, s) != (1, 1)  # the second token sees no token but the first

    return Row("mixer", name, LSH | fields, sees=sees, both=everything, pairs=False)


ROWS = [
    linformer("linformer"),
    linformer("linformer of each head", sharing="none", n_kv_heads=2, bias=True, out_bias=True),
    linformer("linformer of one", sharing="keys_and_values", tied_values=True, n_kv_heads=1),
    linformer("linformer with dropout", sharing="keys_and_values", dropout=0.3),
    replace(performer("performer"), compiled=True),
    performer("performer of relu", kernel="relu", redraws=2, orthogonal=False, chunk=8),
    nystrom("nystrom"),
    nystrom("nystrom with a convolution", kernel=3, bias=True, out_bias=True),
    nystrom("nystrom of many landmarks", n_landmarks=16),
    cosformer("cosformer"),
    cosformer("cosformer of elu", activation="elu", bias=True, out_bias=True),
    lsh("lsh_attention", dropout=0.2),
    lsh("lsh_attention of many buckets", n_hashes=2, n_buckets=(2, 4), out_bias=True),
]

HEADS = {"n_heads": 2, "head_dim": 6, "bias": True, "out_bias": True}

CHANGES = {
    "linformer": HEADS
    | {
        "rank": 4,
        "length": 20,
        "sharing": "none",
        "n_kv_heads": 2,
        "tied_values": Change(True, row="linformer with dropout"),
        "dropout": 0.5,
    },
    "performer": HEADS
    | {
        "kernel": "relu",
        "n_features": 9,
        "eps": 0.1,
        "orthogonal": False,
        "regular": True,
        "redraws": 3,
        "chunk": Change(2, result=False),
    },
    "cosformer": HEADS | {"length": 12, "activation": "elu", "chunk": Change(8, result=False)},
    "nystrom": HEADS
    | {
        "n_landmarks": 4,
        "iterations": 3,
        "kernel": 5,
        "masked": Change("keys", result=False),  # test_nystrom.py: rows with padding
        "start": "batch",
    },
    "lsh_attention": HEADS
    | {
        "chunk": 4,
        "n_hashes": Change(2, result=False),
        "n_buckets": Change(4, result=False),
        "before": Change(0, result=False),  # test_lsh.py: rows of several chunks
        "after": Change(1, result=False),
        "pad_to": Change(32, result=False),
        "across_buckets": Change(False, result=False),
        "duplicates": Change(False, result=False),
        "scale": 0.9,
        "eps": 0.5,
        "hash_seed": Change(1, result=False),
        "dropout": 0.5,
    },
}
