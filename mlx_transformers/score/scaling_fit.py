"""Fits of scaling laws to finished runs, with bootstrap intervals.

The parametric fit minimises `sum Huber(log L - log L̂)` over `[a, b, e, alpha, beta]` with
`log L̂ = LSE(a - alpha log N, b - beta log D, e)`: Hoffmann et al. 2022, section 3.3. The sum, and
not their mean, is minimised, as Besiroglu et al. 2024 found to matter. A damped Newton method runs
from all starts of a grid at once.
"""

from typing import NamedTuple

import numpy as np

from .scaling_laws import Array, ParametricLaw

DELTA = 1e-3
"""Threshold between the quadratic and the linear part of the Huber loss."""
GRID: tuple[tuple[float, ...], ...] = (
    (0.0, 5.0, 10.0, 15.0),
    (0.0, 5.0, 10.0, 15.0),
    (-0.5, 0.5),
    (0.1, 0.5, 1.0),
    (0.1, 0.5, 1.0),
)
"""Starts of `[a, b, e, alpha, beta]`."""
LEAST_RUNS = 6
"""Runs that a fit of five numbers needs."""
DAMPING = (1e-12, 1e12)


class Points(NamedTuple):
    """Finished runs: parameters, tokens and loss, each `[R]`."""

    parameters: Array
    tokens: Array
    loss: Array


class Fit(NamedTuple):
    """A fitted law, and the summed Huber loss of the runs."""

    law: ParametricLaw
    values: Array
    objective: float


class Interval(NamedTuple):
    """A 95 % interval."""

    low: float
    high: float


def terms(values: Array, points: Points) -> Array:
    """Return the three terms of the log-sum-exp, `[S, R, 3]`, for values `[S, 5]`."""
    a, b, e, alpha, beta = (values[:, i, None] for i in range(5))
    size, data = np.log(points.parameters), np.log(points.tokens)
    return np.stack([a - alpha * size, b - beta * data, e + 0 * size], axis=-1)


def predicted(values: Array, points: Points) -> tuple[Array, Array]:
    """Return `log L̂ [S, R]` and the share of each term `[S, R, 3]`."""
    z = terms(values, points)
    top = z.max(axis=-1, keepdims=True)
    e = np.exp(z - top)
    total = e.sum(axis=-1, keepdims=True)
    return (top + np.log(total))[..., 0], e / total


def objective(
    values: Array, points: Points, weights: Array | None = None, delta: float = DELTA
) -> Array:
    """Return the summed Huber loss `[S]` of values `[S, 5]`; runs count by `weights`, `[S, R]`."""
    r = np.abs(predicted(values, points)[0] - np.log(points.loss))
    huber = np.where(r <= delta, 0.5 * r * r, delta * (r - 0.5 * delta))
    return np.asarray((huber if weights is None else huber * weights).sum(axis=-1))


def derivatives(
    values: Array, points: Points, weights: Array | None = None, delta: float = DELTA
) -> tuple[Array, Array]:
    """Return the gradient `[S, 5]` and the Hessian `[S, 5, 5]` of `objective`."""
    log_loss, share = predicted(values, points)
    r = log_loss - np.log(points.loss)
    slope = np.clip(r, -delta, delta)
    bend = (np.abs(r) <= delta).astype(np.float64)
    if weights is not None:
        slope, bend = slope * weights, bend * weights
    size, data = np.log(points.parameters), np.log(points.tokens)
    of_terms = np.zeros((len(size), 3, 5))  # derivatives of the terms by the five values
    of_terms[:, 0, 0], of_terms[:, 1, 1], of_terms[:, 2, 2] = 1.0, 1.0, 1.0
    of_terms[:, 0, 3], of_terms[:, 1, 4] = -size, -data
    first = np.concatenate([share, -size[:, None] * share[..., :1],
                            -data[:, None] * share[..., 1:2]], axis=-1)  # fmt: skip
    pulled = (share * slope[..., None]).reshape(len(values), -1)
    squares = (of_terms[..., :, None] * of_terms[..., None, :]).reshape(-1, 25)
    weighted = first * (bend - slope)[..., None]
    gradient = pulled @ of_terms.reshape(-1, 5)
    hessian = (pulled @ squares).reshape(-1, 5, 5) + weighted.swapaxes(1, 2) @ first
    return gradient, hessian


def minimised(
    starts: Array,
    points: Points,
    weights: Array | None = None,
    delta: float = DELTA,
    iterations: int = 300,
) -> tuple[Array, Array]:
    """Return the minima `[S, 5]` that Newton's method finds from `starts`, and their objectives.

    Each step solves `(H + damping · diag) step = -gradient`; the damping of a start falls after a
    step that lowers its objective and grows after one that does not.
    """
    values = starts.astype(np.float64).copy()
    loss = objective(values, points, weights, delta)
    damping = np.full(len(values), 1e-3)
    eye = np.eye(values.shape[1])
    for _ in range(iterations):
        gradient, hessian = derivatives(values, points, weights, delta)
        scale = np.abs(np.einsum("spp->sp", hessian)) + 1e-12
        damped = hessian + damping[:, None, None] * scale[:, :, None] * eye
        trial = values + np.clip(np.linalg.solve(damped, -gradient[..., None])[..., 0], -3, 3)
        now = objective(trial, points, weights, delta)
        better = np.isfinite(now) & (now < loss)
        values = np.where(better[:, None], trial, values)
        loss = np.where(better, now, loss)
        damping = np.clip(np.where(better, damping / 3, damping * 5), *DAMPING)
        if (damping >= DAMPING[1]).all():
            break
    return values, loss


def law_of(values: Array) -> ParametricLaw:
    """Return the law of `[a, b, e, alpha, beta]`."""
    a, b, e = np.exp(values[:3])
    return ParametricLaw(float(a), float(b), float(e), float(values[3]), float(values[4]))


def fit(points: Points, delta: float = DELTA) -> Fit:
    """Fit the parametric law (Chinchilla's approach 3).

    Raises:
        ValueError: there are too few runs, or they don't differ in size or in tokens.
    """
    check(points)
    starts = np.stack(np.meshgrid(*GRID, indexing="ij"), axis=-1).reshape(-1, len(GRID))
    values, losses = minimised(starts, points, delta=delta, iterations=60)
    few = np.argsort(losses)[:12]
    values, losses = minimised(values[few], points, delta=delta)
    best = int(np.argmin(losses))
    return Fit(law_of(values[best]), values[best], float(losses[best]))


def check(points: Points) -> None:
    """Check that there are enough runs, and that they differ, to fit five numbers.

    Raises:
        ValueError: says what is missing.
    """
    if len(points.loss) < LEAST_RUNS:
        raise ValueError(
            f"A scaling law has five numbers, and {len(points.loss)} runs can't determine them: "
            f"train {LEAST_RUNS} or more."
        )
    for what, values in (("sizes", points.parameters), ("numbers of tokens", points.tokens)):
        if len(np.unique(values)) < 2:
            raise ValueError(f"All runs have the same {what[:-1]}: a law needs several {what}.")


DRAWS = 200
"""Samples of the runs, drawn with replacement, from which intervals are taken."""


def bootstrap(points: Points, fitted: Fit) -> Array:
    """Return the fits `[DRAWS, 5]` of runs drawn with replacement, each from the full fit."""
    rng = np.random.default_rng(0)
    runs = len(points.loss)
    weights = np.stack(
        [np.bincount(rng.integers(0, runs, runs), minlength=runs) for _ in range(DRAWS)]
    )
    starts = np.repeat(fitted.values[None], DRAWS, axis=0)
    return minimised(starts, points, weights.astype(np.float64), iterations=60)[0]


def interval(values: Array) -> Interval:
    """Return the 95 % interval of bootstrapped values."""
    low, high = np.percentile(values[np.isfinite(values)], [2.5, 97.5])
    return Interval(float(low), float(high))


def predict(points: Points, fits: Array, parameters: float, tokens: float) -> Interval:
    """Return the 95 % interval of the loss of a run not made, from bootstrapped fits.

    A run of its own scatters about its law as those of `points` did, so their residuals are added
    to the spread of the fits.
    """
    rng = np.random.default_rng(1)
    centre = np.median(fits, axis=0)
    residuals = np.log(points.loss) - predicted(centre[None], points)[0][0]
    n, d = np.asarray([parameters]), np.asarray([tokens])
    logs = predicted(fits, Points(n, d, n))[0][:, 0]
    inflation = len(residuals) / max(len(residuals) - fits.shape[1], 1)
    return interval(np.exp(logs + rng.choice(residuals, len(logs)) * inflation**0.5))
