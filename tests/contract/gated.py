"""Rows of the slot `mixer`: gated recurrences, which read the past alone, whatever the pass."""

from .suite import Row, past


def recurrence(name: str, kind: str, /, compiled: bool = False, **fields: object) -> Row:
    config = {"kind": kind, **fields}
    return Row("mixer", name, config, both=past, compiled=compiled)


NARROW = {"n_heads": 2, "hidden_dim": 12, "bias": False, "conv": 2}

ROWS = [
    recurrence("rwkv4", "rwkv4", compiled=True),
    recurrence("rwkv4 of another width", "rwkv4", hidden_dim=12),
    recurrence("rg_lru", "rg_lru", n_heads=4, activation="gelu_tanh", compiled=True),
    recurrence(
        "rg_lru of another width",
        "rg_lru",
        n_heads=2,
        hidden_dim=12,
        activation="relu",
        bias=False,
        conv=2,
    ),
    recurrence("mingru", "mingru", compiled=True),
    recurrence("mingru expanded", "mingru", expansion=1.5),
    recurrence("slstm", "slstm", n_heads=4),
    recurrence("slstm without convolution", "slstm", n_heads=2, conv=None),
]

CHANGES: dict[str, dict[str, object]] = {
    "rwkv4": {"hidden_dim": 12},
    "rg_lru": {"n_heads": 2, "hidden_dim": 12, "conv": 3, "activation": "silu", "bias": False},
    "mingru": {"expansion": 2.0, "project": True},
    "slstm": {"n_heads": 2, "conv": 3, "norm": {"kind": "rms_norm"}},
}
