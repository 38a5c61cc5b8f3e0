"""Rows of the slot `head`."""

from .suite import Row, itself


def head(name: str, **fields: object) -> Row:
    return Row("head", name, {"kind": "lm", **fields}, sees=itself)


ROWS = [
    head("untied", tied=False),
    head("tied", tied=True),
    head("tied with bias and softcap", tied=True, bias=True, softcap=2.0),
]

CHANGES = {"lm": {"tied": True, "bias": True, "softcap": 1.0}}
