"""Sizes of decode states (KV caches), without allocating them."""

import mlx.core as mx
from mlx.utils import tree_flatten

from ..models.model import Decodable
from .engine import dtype


def state_bytes(state: object) -> int:
    """Bytes of a decode state: its floating arrays (keys, values, recurrent states), and the words
    of packed ones.

    Other integers (positions, offsets) are left out. Nothing is computed.
    """
    arrays = [value for _, value in tree_flatten(state)]
    stored = (a for a in arrays if mx.issubdtype(a.dtype, mx.floating) or a.dtype == mx.uint32)
    return sum(a.nbytes for a in stored)


def cache_bytes_per_token(model: Decodable) -> float:
    """Bytes of decode state per token of context, for one row with a full context.

    `2 L G K · bytes of a number` for full attention; windows and recurrent layers need less. The
    dtype is that of the model's parameters.
    """
    state = model.init_state(1, model.max_seq_len, dtype(model))
    return state_bytes(state) / model.max_seq_len
