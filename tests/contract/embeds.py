"""Rows of the slot `embed`."""

from .suite import Row, itself


def embed(name: str, position: str = "none", **fields: object) -> Row:
    config = {"kind": "token", **fields}
    return Row("embed", name, config, sees=itself, position={"kind": position})


ROWS = [
    embed("token"),
    embed("token scaled", scale="sqrt_dim"),
    embed("token with sinusoidal positions", "sinusoidal", scale="sqrt_dim"),
    embed("token with learned positions and dropout", "learned", dropout=0.2),
]

CHANGES = {"token": {"scale": "sqrt_dim", "dropout": 0.5}}
