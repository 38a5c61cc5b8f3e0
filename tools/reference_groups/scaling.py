"""Group 9: scaling laws and their fits, in float64."""

import mlx.core as mx
import numpy as np

from mlx_transformers.score import scaling_fit, scaling_laws
from mlx_transformers.score.scaling_fit import Points
from reference_groups.case import Arrays, Case, Rule


def wide(values: object) -> mx.array:
    """A float64 array, of one element where a number is given."""
    return mx.array(np.atleast_1d(np.asarray(values, np.float64)), mx.float64)


ARGUMENTS = {
    "budgets": (1e18, 1e19, 1e20, 1e21, 1e22, 5.76e23),
    "N": (1e6, 1e7, 1e8, 1e9, 7e10),
    "D": (1e8, 1e9, 2.2e10, 3e11, 1.4e12),
    "S": (1e3, 1e4, 1e5, 1e6, 1e7),
    "C": (1e18, 1e20, 1e22, 1e24),
}
"""Where the tables are computed, unless the inputs or options say."""


def double(case: Case, name: str) -> np.ndarray:
    """An argument as float64: an input, an option, or the usual one."""
    given = {**ARGUMENTS, **case.options, **case.inputs}[name]
    return np.asarray(given).astype(np.float64)


def chinchilla(case: Case) -> Arrays:
    """The parametric fit, its objective at given points, and the optima of given budgets."""
    points = Points(*(double(case, name) for name in ("N", "D", "loss")))
    delta = case.options.get("delta", scaling_fit.DELTA)
    given = double(case, "points")
    fitted = scaling_fit.fit(points, delta)
    budgets = double(case, "budgets")
    best = fitted.law.optimum(budgets)
    return {
        "objective": wide(scaling_fit.objective(given, points, delta=delta)),
        "objective_grad": wide(scaling_fit.derivatives(given, points, delta=delta)[0]),
        "fit": wide(fitted.values),
        "fit_A": wide(fitted.law.A),
        "fit_B": wide(fitted.law.B),
        "fit_E": wide(fitted.law.E),
        "fit_objective": wide(fitted.objective),
        "budgets": wide(budgets),
        "N_opt": wide(best.parameters),
        "D_opt": wide(best.tokens),
        "L_opt": wide(best.loss),
        "N_exponent": wide(fitted.law.exponent),
    }


def forms(case: Case) -> Arrays:
    """Values of the published laws at the case's sizes, tokens, steps and budgets."""
    n, d, s, c = (double(case, name) for name in "NDSC")
    found = {
        "N": n,
        "D": d,
        "S": s,
        "C": c,
        "kaplan_L_N": scaling_laws.KAPLAN_SIZE(n),
        "kaplan_L_D": scaling_laws.KAPLAN_TOKENS(d),
        "kaplan_L_N_D": scaling_laws.KAPLAN.loss(n, d),
        "kaplan_L_N_Smin": scaling_laws.KAPLAN_STEPS.loss(n, s),
        "kaplan_critical_batch": scaling_laws.critical_batch(scaling_laws.KAPLAN_SIZE(n)),
    }
    for name in ("hoffmann", "besiroglu"):
        law = {"hoffmann": scaling_laws.HOFFMANN, "besiroglu": scaling_laws.BESIROGLU}[name]
        best = law.optimum(c)
        found |= {
            f"{name}_L": law.loss(n, d),
            f"{name}_N_opt": best.parameters,
            f"{name}_D_opt": best.tokens,
            f"{name}_L_opt": best.loss,
        }
    return {name: wide(value) for name, value in found.items()}


RULES = (
    Rule(r"Chinchilla parametric|L-BFGS", chinchilla),
    Rule(r"published laws|closed forms", forms),
)
