"""The table that most families of decoders fill in: one block, repeated, between embed and head."""

from ..recipe.merge import Table


def decoder(
    *,
    dim: int,
    n_layers: int,
    max_seq_len: int,
    vocab_size: int,
    norm: Table,
    mixer: Table,
    ffn: Table,
    position: Table,
    head: Table,
    std: float,
    embed: Table | None = None,
    placement: str = "pre",
    arrangement: str = "sequential",
    dropout: float = 0.0,
    last_norm: bool = True,
) -> Table:
    """Return a `[model]` table; `std` is that of the initial weights.

    Args:
        last_norm: whether there is a norm after the last block.
    """
    block = {
        "placement": placement,
        "arrangement": arrangement,
        "dropout": float(dropout),
        "norm": norm,
        "mixer": {"kind": "attention", **mixer},
        "ffn": ffn,
    }
    return {
        "kind": "decoder",
        "dim": dim,
        "n_layers": n_layers,
        "max_seq_len": max_seq_len,
        "vocab_size": vocab_size,
        "embed": {"kind": "token", **(embed or {})},
        "position": position,
        "block": block,
        "norm": norm if last_norm else {"kind": "none"},
        "head": {"kind": "lm", **head},
        "init": {"kind": "normal", "std": std},
    }


def mlp(hidden_dim: int, activation: str, bias: bool = True, dropout: float = 0.0) -> Table:
    """Return the table of a two-layer feed-forward network."""
    return {
        "kind": "mlp",
        "hidden_dim": hidden_dim,
        "activation": activation,
        "bias": bias,
        "dropout": float(dropout),
    }
