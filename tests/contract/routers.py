"""Rows of the slot `router`."""

from .suite import EXPERTS, Change, Row, itself


def router(name: str, top_k: int, normalize: bool, **fields: object) -> Row:
    config = {"kind": "top_k", "top_k": top_k, "normalize": normalize, **fields}
    # the bias of a sigmoid router is moved by hand
    silent = ("balance",) if config["kind"] == "sigmoid" else ()
    return Row("router", name, config, sees=itself, silent=silent)


def gshard(name: str, **fields: object) -> Row:
    config = {"kind": "gshard", "top_k": 2, "normalize": True, **fields}
    return Row("router", name, config, sees=itself)


ROWS = [
    router("top 2", 2, True),
    router("top 1", 1, False),
    router("all experts", EXPERTS, True),
    router("losses", 2, False, balance_loss=0.1, z_loss=0.01),
    router("biased", 2, True, bias=True),
    router("scaled", 2, False, scale=1.5),
    router("best group", 2, True, n_groups=2, top_groups=1),
    router("sigmoid", 2, True, kind="sigmoid"),
    router("sigmoid scaled", 1, False, kind="sigmoid", scale=2.5),
    router("sigmoid of shares", 2, True, kind="sigmoid", scores="softmax"),
    Row("router", "sparse mixer", {"kind": "sparse_mixer", "reach": 0.4}, sees=itself),
    Row(
        "router",
        "sparse mixer of 3",
        {"kind": "sparse_mixer", "top_k": 3, "reach": 0.4},
        sees=itself,
    ),
    gshard("gshard", policy="threshold", threshold=0.3),
    gshard("gshard of all", policy="all", normalize=False, z_loss=0.01),
    gshard("gshard in groups", policy="all", n_groups=2, top_groups=1),
    gshard("gshard of three", policy="none", top_k=3, balance_loss=0.1),
    router("sigmoid best group", 2, True, kind="sigmoid", n_groups=2, top_groups=1),
]

ROUTING = {"top_k": 3, "normalize": False, "scale": 2.0}
CHANGES = {
    "top_k": ROUTING
    | {
        "n_groups": Change(1, row="best group"),
        "top_groups": Change(2, row="best group"),
        "bias": True,
        "jitter": 0.1,
        "balance_loss": 0.1,
        "balance_over": Change("layers", row="losses"),
        "z_loss": 0.1,
    },
    "gshard": {
        "top_k": 3,
        "normalize": False,
        "scale": 2.0,
        "bias": True,
        "jitter": 0.1,
        "balance_loss": 0.1,
        "balance_over": Change("layers", row="gshard of three"),
        "z_loss": 0.1,
        "policy": "none",
        "threshold": 0.45,
        "n_groups": Change(1, row="gshard in groups"),
        "top_groups": Change(2, row="gshard in groups"),
    },
    "sigmoid": ROUTING
    | {
        "n_groups": Change(1, row="sigmoid best group"),
        "top_groups": Change(2, row="sigmoid best group"),
        "speed": Change(0.1, result=False),
        "scores": "softmax",
    },
    "sparse_mixer": {"top_k": 3, "reach": 2.0},
}
