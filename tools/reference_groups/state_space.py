"""Group 3: state spaces: HiPPO, S4, S4D, S5."""

import mlx.core as mx
import numpy as np
from reference_ops.complex_scan import complex_recurrence
from reference_ops.dplr_kernel import dplr_kernel, untruncated
from reference_ops.hyena import long_convolution

from mlx_transformers.core.context import Context
from mlx_transformers.layers.mixers.s4d import S4d
from mlx_transformers.ops.complex import Complex
from mlx_transformers.ops.dplr import discretize_dplr
from mlx_transformers.ops.hippo import diagonal, dplr, rank_correction, transition
from mlx_transformers.ops.linear_recurrence import linear_recurrence
from mlx_transformers.ops.state_space import (
    diagonal_system,
    discretize,
    powers,
    run_system,
)
from reference_groups.case import Arrays, Case, Rule

TABLES = (
    *(f"{table}_legs" for table in ("A", "B", "P", "Lambda", "absP", "absB")),
    *(f"{table}_legt" for table in ("A", "B", "P", "Lambda", "absP", "absB")),
    *(f"{table}_fout" for table in "ABP"),
    *(f"s4d_{start}" for start in ("lin", "inv", "inv2", "quad", "real", "legs")),
)
"""The usual tables by kind and measure."""


def tables(case: Case) -> Arrays:
    """HiPPO matrices by measure, and starts of diagonal matrices."""
    n, found = case.options["N"], {}
    for name in case.names(*TABLES):
        kind, _, measure = name.partition("_")
        if kind == "s4d":
            found[name] = pairs(diagonal(measure, case.options.get("N_s4d", n)))
        elif kind in ("Lambda", "absP", "absB"):
            form = dplr(measure, n)
            table = {"Lambda": form.a, "absP": np.abs(form.p), "absB": np.abs(form.b)}[kind]
            found[name] = pairs(table) if kind == "Lambda" else mx.array(table.astype(np.float32))
        else:
            a, b = transition(measure, n)
            table = {"A": a, "B": b, "P": rank_correction(measure, n)}[kind]
            found[name] = mx.array(table.astype(np.float32))
    return found


def pairs(z: np.ndarray) -> mx.array:
    return mx.array(np.stack([z.real, z.imag], axis=-1).astype(np.float32))


def eigenvalues(params: Arrays) -> Complex:
    """`-exp(A_real) - i A_imag`, as s4.py stores them."""
    return Complex(-mx.exp(params["A_real"]), -params["A_imag"])


def s4_kernel(case: Case) -> Arrays:
    p, u = case.params, case.inputs["u"]
    length, a, dt = u.shape[-1], eigenvalues(p), mx.exp(p["inv_dt"])
    low, b = Complex.of(p["P"]), Complex.of(p["B"][0])
    c = Complex.of(p["C_tilde"][0])
    kernel = dplr_kernel(a, low, b, c, dt, length)
    out = {"kernel": kernel, "y": long_convolution(u, kernel) + p["D"][:, None] * u}
    if case.expects("C"):
        step, _ = discretize_dplr(*(stopped(z) for z in (a, low, b)), mx.stop_gradient(dt))
        out["C"] = untruncated(c, step, length).pairs()
    return out


def stopped(z: Complex) -> Complex:
    return Complex(mx.stop_gradient(z.re), mx.stop_gradient(z.im))


def s4d_kernel(case: Case) -> Arrays:
    p, u = case.params, case.inputs["u"]
    b, c = Complex.of(p["B"][0]), Complex.of(p["C"][0])
    if case.options["disc"] == "dss":
        kernel = dss_kernel(eigenvalues(p), b, c, mx.exp(p["inv_dt"]), u.shape[-1])
        return {"kernel": kernel, "y": long_convolution(u, kernel) + p["D"][:, None] * u}
    if case.options["disc"] not in ("zoh", "bilinear"):
        raise LookupError(f"disc = {case.options['disc']!r} is not built: zoh, bilinear, dss")
    make = diagonal_system(eigenvalues(p), b, c, mx.exp(p["inv_dt"]), case.options["disc"])
    length = u.shape[-1]
    rows = u.swapaxes(1, 2)
    skipped = rows * p["D"]
    out = {"kernel": make(length).kernel}
    if "state" in case.inputs:
        state = Complex.of(case.inputs["state"]).stacked(axis=-1)
        response, _ = run_system(make, mx.zeros_like(rows), state, chunk=length)
        out["state_response"] = response.swapaxes(1, 2)
        y, _ = run_system(make, rows, state, chunk=4)
    else:
        y, _ = run_system(make, rows, chunk=4)
    return out | {"y": (y + skipped).swapaxes(1, 2)}


def dss_kernel(a: Complex, b: Complex, c: Complex, dt: mx.array, length: int) -> mx.array:
    """The kernel `[H, length]` of DSS: each mode is divided by its sum over the row, and no
    conjugate half is added (Gupta et al. 2022, arXiv:2203.14343, proposition 1b)."""
    step = a * dt
    total = (step * float(length)).expm1() * a
    size = total.re**2 + total.im**2 + 1e-7
    gain = b * c * step.expm1() * Complex(total.re / size, -total.im / size)
    modes = powers(step, mx.arange(length))
    return (Complex(gain.re[..., None], gain.im[..., None]) * modes).re.sum(axis=1)


def s4d_layer(case: Case) -> Arrays:
    """The minimal layer, by the mixer of the project: its A_imag is that of the published one."""
    p, (_, width, _) = case.params, case.inputs["u"].shape
    half = p["kernel.log_A_real"].shape[1]
    layer = S4d(state_dim=2 * half, chunk=4).build(width)
    layer.log_A, layer.A_imag = p["kernel.log_A_real"], p["kernel.A_imag"]
    layer.C, layer.D, layer.log_dt = p["kernel.C"], p["D"], p["kernel.log_dt"]
    layer.o.weight = p["output_linear.0.weight"][..., 0]
    layer.o.bias = p["output_linear.0.bias"]
    y = layer(case.inputs["u"].swapaxes(1, 2), Context())
    return {"y": y.swapaxes(1, 2)}


def s5(case: Case) -> Arrays:
    """One system of P states for all features: `y = Re(C x) + D u`, `u [L, H]`."""
    arrays, disc = case.inputs | case.params, case.options["disc"]
    if disc not in ("zoh", "bilinear"):
        raise LookupError(f"disc = {disc!r} is not built: zoh, bilinear")
    a, b, c = (Complex.of(arrays[name]) for name in ("Lambda", "B", "C"))
    dt = mx.exp(arrays["log_step"])
    column = Complex(a.re[:, None], a.im[:, None])
    decay, _ = discretize(a, a, dt, disc)
    _, write = discretize(column, b, dt[:, None], disc)
    u = arrays["u"]
    written = Complex(u @ write.re.T, u @ write.im.T).pairs()[None]
    rates = mx.broadcast_to(decay.pairs(), written.shape)
    start = arrays.get("state", mx.zeros(written.shape[2:]))[None]
    states = complex_recurrence(rates, written, start)
    read = states
    if case.options.get("bidirectional"):
        # the published code adds the decayed state to the first input, in both directions
        decayed = (Complex.of(rates[:, :1]) * Complex.of(start[:, None])).pairs()
        back = mx.concatenate([written[:, :1] + decayed, written[:, 1:]], axis=1)[:, ::-1]
        back = complex_recurrence(rates, back, mx.zeros_like(start))[:, ::-1]
        read = mx.concatenate([states, back], axis=2)
    x = Complex.of(read[0])
    y = x.re @ c.re.T - x.im @ c.im.T + arrays["D"] * u
    last = read[0, -1]
    weights = case.cotangents.get("last_state")
    if weights is not None and weights.shape == states.shape[2:]:
        last = states[0, -1]  # of the direction that goes forward
    return {"y": y, "last_state": last}


def mega_ema(case: Case) -> Arrays:
    """Mega's damped moving averages as linear recurrences, `u [B, L, H]`."""
    p, u = case.params, case.inputs["u"]
    push = mx.sigmoid(p["delta"][..., 0])
    rate = 1 - push * mx.sigmoid(p["alpha"][..., 0])
    gain, read = push * p["beta"], p["gamma"] * p["gamma"].shape[-1] ** -0.5
    seen = u
    if "padding_mask" in case.inputs:
        seen = u * (1 - case.inputs["padding_mask"].astype(mx.float32))[..., None]

    def one(x: mx.array, part: slice) -> mx.array:
        rates = mx.broadcast_to(rate[part], (1, 1, *rate[part].shape))
        rates = mx.broadcast_to(rates, (1, x.shape[1], *rate[part].shape))
        return (linear_recurrence(rates, x[..., None] * gain[part]) * read[part]).sum(axis=-1)

    width = u.shape[-1]
    y = one(seen, slice(0, width))
    if case.options.get("bidirectional"):
        y = y + one(seen[:, ::-1], slice(width, None))[:, ::-1]
    return {"y": y + p["omega"] * u}


RULES: tuple[Rule, ...] = (
    Rule(r"transition, rank_correction", tables),
    Rule(r"SSMKernelDPLR", s4_kernel),
    Rule(r"SSMKernelDiag", s4d_kernel),
    Rule(r"s4d\.py: S4D", s4d_layer),
    Rule(r"apply_ssm", s5),
    Rule(r"MultiHeadEMA", mega_ema),
)
