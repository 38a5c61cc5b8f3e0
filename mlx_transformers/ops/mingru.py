"""The minimal gated recurrent unit: a GRU whose gate and candidate don't read the state.

    h_t = (1 - z_t) h_{t-1} + z_t g(h̃_t)          z = σ(gate)          g(x) = x + ½, σ(x) below 0

Feng et al. 2024, "Were RNNs All We Needed?", section 3.1 and appendix B.3. The paper sums in log
space, for which g keeps candidates positive; an associative scan needs no logarithms.
"""

import mlx.core as mx

from ..core.shapes import BD, BTD, BoolBT
from .custom_vjp import recompute
from .linear_recurrence import linear_recurrence


def mingru(
    candidate: BTD,
    gate: BTD,
    state: BD,
    starts: BoolBT | None = None,
    valid: BoolBT | None = None,
) -> tuple[BTD, BD]:
    """Compute h of every token without a loop over them, in float32.

    The backward pass computes it again, so a forward saves its arguments alone.

    Args:
        candidate, gate: h̃ and the gate before its sigmoid.
        state: h before the first token.
        starts: True where a document starts, which reads nothing from before.
        valid: False on padding, which leaves the state as it is.

    Returns:
        h in the dtype of the candidate, and the last one in float32.
    """

    def forward(candidate: mx.array, gate: mx.array, state: mx.array) -> list[mx.array]:
        z = mx.sigmoid(gate)
        a, b = mx.sigmoid(-gate), z * positive(candidate)
        if starts is not None:
            a = mx.where(starts[..., None], 0.0, a)
        if valid is not None:
            a, b = mx.where(valid[..., None], a, 1.0), mx.where(valid[..., None], b, 0.0)
        return [linear_recurrence(a, b, state)]

    arrays = (array.astype(mx.float32) for array in (candidate, gate, state))
    (h,) = recompute(forward)(*arrays)
    return h.astype(candidate.dtype), h[:, -1]


def positive(x: mx.array) -> mx.array:
    """g: continuous and above 0, linear from 0 on."""
    return mx.where(x >= 0, x + 0.5, mx.sigmoid(x))
