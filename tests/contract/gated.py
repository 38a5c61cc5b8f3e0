"""Rows of the slot `mixer`: gated recurrences, which read the past alone, whatever the pass."""

from .suite import Row, past


def recurrence(name: str, kind: str, /, compiled: bool = False, **fields: object) -> Row:
    config = {"kind": kind, **fields}
    return Row("mixer", name, config, both=past, compiled=compiled)


ROWS = [
    recurrence("rwkv4", "rwkv4", compiled=True),
    recurrence("rwkv4 of another width", "rwkv4", hidden_dim=12),
]

CHANGES: dict[str, dict[str, object]] = {
    "rwkv4": {"hidden_dim": 12},
}
