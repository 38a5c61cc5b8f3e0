"""Group 3: state spaces: HiPPO, S4, S4D, S5."""

import math
from collections.abc import Callable
from typing import get_args

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from reference_ops.complex_scan import complex_recurrence
from reference_ops.dplr_kernel import dplr_kernel, untruncated
from reference_ops.hyena import long_convolution

from mlx_transformers.core.context import Context
from mlx_transformers.layers.mixers.s4d import S4d
from mlx_transformers.ops.complex import Complex
from mlx_transformers.ops.dplr import discretize_dplr
from mlx_transformers.ops.hippo import Measure, diagonal, dplr, rank_correction, transition
from mlx_transformers.ops.linear_recurrence import linear_recurrence
from mlx_transformers.ops.short_conv import short_convolution
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
        if kind != "s4d" and measure not in get_args(Measure):
            raise LookupError(f"the measure {measure!r} is not built: {get_args(Measure)}")
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


TRANSFORMS: dict[str, Callable[[mx.array], mx.array]] = {
    "none": lambda x: x,
    "exp": mx.exp,
    "relu": lambda x: mx.maximum(x, 0) + 1e-4,
    "sigmoid": mx.sigmoid,
    "softplus": nn.softplus,
}
"""How s4.py makes a positive number of a parameter."""


def step_sizes(case: Case) -> mx.array:
    """Δ `[H, 1 or N / 2]`, of which `rate` takes several or less than one."""
    x = mx.sinh(case.params["inv_dt"]) if case.options.get("dt_fast") else case.params["inv_dt"]
    dt = TRANSFORMS[case.options.get("dt_transform", "exp")](x)
    return dt * case.options.get("rate", 1.0)


def shared(case: Case, x: mx.array) -> mx.array:
    """A parameter `[..., S, N / 2]` of S state spaces (`n_ssm`) for all H features, in turns."""
    copies = len(case.params["inv_dt"]) // x.shape[-2]
    return mx.concatenate([x] * copies, axis=-2)


def eigenvalues(case: Case) -> Complex:
    """`-f(A_real) - i g(A_imag)`, as s4.py stores them; f and g are options."""
    p, options = case.params, case.options
    real = -TRANSFORMS[options.get("real_transform", "exp")](p["A_real"])
    if "A_imag" not in p:
        return Complex(shared(case, real), mx.zeros_like(shared(case, real)))
    imaginary = -TRANSFORMS[options.get("imag_transform", "none")](p["A_imag"])
    return Complex(shared(case, real), shared(case, imaginary))


def numbers(case: Case, x: mx.array) -> Complex:
    """A complex parameter, or a real one where the state matrix is real."""
    return Complex.of(x) if "A_imag" in case.params else Complex(x, mx.zeros_like(x))


AXES = {"kernel": 0, "C": 0, "y": 1, "state_response": 1}
"""The axis of the channels in each output."""


def by_channel(case: Case, c: Complex, one: Callable[[Complex, mx.array], Arrays]) -> Arrays:
    """The outputs of each channel of `C [C, H, N / 2]` with its D, stacked if there are several."""
    d = case.params["D"].reshape(c.re.shape[0], -1)
    outs = [one(Complex(re, im), d_c) for re, im, d_c in zip(c.re, c.im, d, strict=True)]
    if len(outs) == 1:
        return outs[0]
    return {name: mx.stack([out[name] for out in outs], axis=AXES[name]) for name in outs[0]}


def s4_kernel(case: Case) -> Arrays:
    p, u, options = case.params, case.inputs["u"], case.options
    length, a, dt = u.shape[-1], eigenvalues(case), step_sizes(case)
    whole = options.get("l_max") or length
    low, b = (Complex.of(mx.stack([shared(case, x[..., i]) for i in range(2)], axis=-1))
              for x in (p["P"], p["B"][0]))  # fmt: skip

    def one(c: Complex, d: mx.array) -> Arrays:
        kernel = dplr_kernel(a, low, b, c, dt, whole)[:, :length]
        out = {"kernel": kernel, "y": long_convolution(u, kernel) + d[:, None] * u}
        if case.expects("C"):
            step, _ = discretize_dplr(*(stopped(z) for z in (a, low, b)), mx.stop_gradient(dt))
            out["C"] = untruncated(c, step, whole).pairs()
        return out

    return by_channel(case, Complex.of(p["C_tilde"]), one)


def stopped(z: Complex) -> Complex:
    return Complex(mx.stop_gradient(z.re), mx.stop_gradient(z.im))


def s4d_kernel(case: Case) -> Arrays:
    p, u, disc = case.params, case.inputs["u"], case.options["disc"]
    a, dt = eigenvalues(case), step_sizes(case)
    b = numbers(case, p["B"][0])
    b, c = Complex(shared(case, b.re), shared(case, b.im)), numbers(case, p["C"])
    if disc not in ("zoh", "bilinear", "dss") or (disc == "dss" and "state" in case.inputs):
        raise LookupError(f"disc = {disc!r} is not built: zoh, bilinear, dss without a state")
    limit = case.options.get("bandlimit")
    if limit is not None:  # C without the modes that turn too fast for the steps
        turns = dt / case.options.get("rate", 1.0) * mx.abs(a.im) / (2 * math.pi)
        slow = turns < limit / 2
        c = Complex(mx.where(slow, c.re, 0.0), mx.where(slow, c.im, 0.0))
    length, rows = u.shape[-1], u.swapaxes(1, 2)

    def one(c: Complex, d: mx.array) -> Arrays:
        if disc == "dss":
            kernel = dss_kernel(a, b, c, dt, length)
            return {"kernel": kernel, "y": long_convolution(u, kernel) + d[:, None] * u}
        make = diagonal_system(a, b, c, dt, disc)
        out, state = {"kernel": make(length).kernel}, None
        if "state" in case.inputs:
            state = Complex.of(case.inputs["state"]).stacked(axis=-1)
            response, _ = run_system(make, mx.zeros_like(rows), state, chunk=length)
            out["state_response"] = response.swapaxes(1, 2)
        y, _ = run_system(make, rows, state, chunk=4)
        return out | {"y": (y + rows * d).swapaxes(1, 2)}

    return by_channel(case, c, one)


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

    taps = case.options.get("truncation")

    def one(x: mx.array, part: slice) -> mx.array:
        if taps:
            fade = rate[part, :, None] ** mx.arange(min(taps, x.shape[1]))
            kernel = (fade * (gain * read)[part, :, None]).sum(axis=1)
            return short_convolution(x, kernel[:, ::-1])
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
