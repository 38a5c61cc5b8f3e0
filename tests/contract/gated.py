"""Rows of the slot `mixer`: gated recurrences, which read the past alone, whatever the pass."""

from .suite import Change, Row, past


def recurrence(name: str, kind: str, /, compiled: bool = False, **fields: object) -> Row:
    config = {"kind": kind, **fields}
    return Row("mixer", name, config, both=past, compiled=compiled)


def heads(name: str, kind: str, /, compiled: bool = False, **fields: object) -> Row:
    """A kind with a matrix per head, computed in chunks."""
    size = {"head_dim": 8} if kind.startswith("rwkv") else {"n_heads": 2}
    config = {"kind": kind, "chunk": 4, **size, **fields}
    return Row("mixer", name, config, both=past, compiled=compiled, pairs=False)


RANKS = {"decay_rank": 3, "rate_rank": 4, "gate_rank": 5}
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
    heads("mlstm", "mlstm", compiled=True),
    heads("mlstm of widths", "mlstm", key_dim=12, value_dim=8, gate_cap=None, bias=True),
    heads("hgrn2", "hgrn2"),
    heads("hgrn2 of widths", "hgrn2", key_dim=12, lower_bound=0.3),
    recurrence("slstm", "slstm", n_heads=4),
    heads("rwkv6", "rwkv6", mix_rank=3, decay_rank=5, compiled=True),
    heads("rwkv5", "rwkv6", mix_rank=None, decay_rank=None),
    heads("rwkv7", "rwkv7", **RANKS, compiled=True),
    heads("rwkv7 of later layers", "rwkv7", **RANKS, value_rank=2, value_residual=True),
    recurrence("slstm without convolution", "slstm", n_heads=2, conv=None),
]

CHANGES: dict[str, dict[str, object]] = {
    "rwkv4": {"hidden_dim": 12},
    "rg_lru": {"n_heads": 2, "hidden_dim": 12, "conv": 3, "activation": "silu", "bias": False},
    "mingru": {"expansion": 2.0, "project": True},
    "mlstm": {
        "n_heads": 4,
        "key_dim": 4,
        "value_dim": 8,
        "gate_cap": 2.0,
        "bias": True,
        "eps": 0.1,
        "norm_eps": 0.1,
        "chunk": Change(8, result=False),
    },
    "hgrn2": {
        "n_heads": 4,
        "key_dim": 4,
        "lower_bound": 0.5,
        "norm": {"kind": "layer_norm"},
        "chunk": Change(8, result=False),
    },
    "rwkv6": {
        "head_dim": 4,
        "mix_rank": 4,
        "decay_rank": 4,
        "divisor": 2.0,
        "chunk": Change(8, result=False),
    },
    "rwkv7": {
        "head_dim": 4,
        "decay_rank": 4,
        "rate_rank": 3,
        "gate_rank": 4,
        "value_rank": Change(3, row="rwkv7 of later layers"),
        "value_residual": True,
        "chunk": Change(8, result=False),
    },
    "slstm": {"n_heads": 2, "conv": 3, "norm": {"kind": "rms_norm"}},
}
