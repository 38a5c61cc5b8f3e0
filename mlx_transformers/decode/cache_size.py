"""How large a decode state is, without making one."""

from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from .engine import Decodable, dtype


def state_bytes(state: Any) -> int:
    """Bytes of what the layers keep of the past: the floating arrays of a decode state.

    Its integers (positions, offsets) are bookkeeping, and left out. Nothing is computed.
    """
    arrays = (value for _, value in tree_flatten(state))
    return sum(a.nbytes for a in arrays if mx.issubdtype(a.dtype, mx.floating))


def cache_bytes_per_token(model: Decodable) -> float:
    """Bytes of decode state by token of context, when the context of one row is full.

    For full attention `2 L G K · bytes of a number`; windows and recurrent layers need less, the
    more so the longer the context. In the type of the model's own parameters.
    """
    state = model.init_state(1, model.max_seq_len, dtype(model))
    return state_bytes(state) / model.max_seq_len
