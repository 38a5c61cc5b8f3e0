"""Group 4: selective scans: Mamba and Mamba-2."""

import mlx.core as mx
import mlx.nn as nn
from reference_ops.complex_scan import complex_selective_scan

from mlx_transformers.ops.chunks import document_starts
from mlx_transformers.ops.linear_attention import linear_attention
from mlx_transformers.ops.selective_scan import selective_scan
from reference_groups.case import Arrays, Case, Rule


def mamba_scan(case: Case) -> Arrays:
    """Arrays of features by time, `[B, D, T]`, and B and C `[B, (G,) N, T]` or `[D, N]`."""
    arrays = case.inputs | case.params
    is_complex = arrays["A"].ndim == 3
    u, dt = arrays["u"].swapaxes(1, 2), arrays["delta"].swapaxes(1, 2)
    if "delta_bias" in arrays:
        dt = dt + arrays["delta_bias"]
    if case.options.get("delta_softplus"):
        dt = nn.softplus(dt)
    b, c = (by_token(arrays[name], is_complex, u.shape[1]) for name in "BC")
    scan = complex_selective_scan if is_complex else selective_scan
    y, last = scan(u, dt, arrays["A"], b, c)
    if "D" in arrays:
        y = y + arrays["D"] * u
    y = y.swapaxes(1, 2)
    if "z" in arrays:
        y = y * nn.silu(arrays["z"])
    return {"out": y, "last_state": last}


def by_token(x: mx.array, is_complex: bool, length: int) -> mx.array:
    """`[B, (G,) N, T]` as `[B, T, G, N]`, complex pairs last; `[D, N]` as it is.

    The published code takes complex B and C as `[B, (G,) N, 2 T]`, parts side by side.
    """
    if is_complex and x.shape[-1] == 2 * length:
        x = x.reshape(*x.shape[:-1], length, 2)
    if x.ndim == (3 if is_complex else 2):
        return x
    axes = x.ndim - is_complex
    if axes == 3:
        x = x[:, None]
    return mx.moveaxis(x, 3, 1)


def heads_first(x: mx.array) -> mx.array:
    """`[B, T, H, ...]` as `[B, H, T, ...]`, and the other way round."""
    return x.swapaxes(1, 2)


def ssd(case: Case) -> Arrays:
    """Mamba-2's scan as linear attention: queries C, keys B, values Δ x, log-decays Δ A."""
    arrays = case.inputs | case.params
    x, dt = arrays["x"], arrays["dt"]
    if "dt_bias" in arrays:
        dt = dt + arrays["dt_bias"]
    if case.options.get("dt_softplus", True):
        dt = nn.softplus(dt)
    if "dt_limit" in case.options:
        dt = mx.clip(dt, *case.options["dt_limit"])
    a = -mx.exp(arrays["A_log"]) if "A_log" in arrays else arrays["A"]
    documents = case.inputs.get("seq_idx")
    y, last = linear_attention(
        heads_first(arrays["C"]),
        heads_first(arrays["B"]),
        heads_first(x * dt[..., None]),
        heads_first(dt * a),
        scale=1.0,
        state=state_of(arrays),
        starts=document_starts(documents),
        chunk=4,
    )
    y = heads_first(y)
    if "D" in arrays:
        d = arrays["D"]
        y = y + (d if d.ndim == 2 else d[:, None]) * x
    if "z" in arrays:
        y = y * nn.silu(arrays["z"])
    return {"out": y, "final_state": last.swapaxes(-1, -2)}


def ssd_minimal(case: Case) -> Arrays:
    given = case.inputs
    y, last = linear_attention(
        *(heads_first(given[name]) for name in "CBXA"), scale=1.0, state=state_of(given), chunk=4
    )
    return {"y": heads_first(y), "final_state": last.swapaxes(-1, -2)}


def state_of(arrays: Arrays) -> mx.array | None:
    """The initial state, `[B, H, P, N]` in the published code."""
    for name in ("initial_state", "initial_states"):
        if name in arrays:
            return arrays[name].swapaxes(-1, -2)
    return None


RULES: tuple[Rule, ...] = (
    Rule(r"selective_scan_ref|selective_scan_fn", mamba_scan),
    Rule(r"ssd_chunk_scan_combined|mamba_chunk_scan_combined", ssd),
    Rule(r"ssd_minimal_discrete", ssd_minimal),
)
