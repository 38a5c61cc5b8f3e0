"""Rows of the slot `router`."""

from .suite import EXPERTS, Row, itself


def router(name: str, top_k: int, normalize: bool, **fields: float) -> Row:
    config = {"kind": "top_k", "top_k": top_k, "normalize": normalize, **fields}
    return Row("router", name, config, sees=itself)


ROWS = [
    router("top 2", 2, True),
    router("top 1", 1, False),
    router("all experts", EXPERTS, True),
    router("losses", 2, False, balance_loss=0.1, z_loss=0.01),
]

CHANGES = {"top_k": {"top_k": 3, "normalize": False, "balance_loss": 0.1, "z_loss": 0.1}}
