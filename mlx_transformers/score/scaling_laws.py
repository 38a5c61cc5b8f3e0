"""Published scaling laws: the loss of a model of N parameters after D tokens, and the best of both.

Kaplan et al. 2020 count N without embeddings; Hoffmann et al. 2022 count all parameters. Training
costs `C = 6 N D` flops in both. Arrays are float64.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

FLOPS_PER_PARAMETER = 6.0
"""Flops of forward and backward for a parameter and a token."""


class Optimum(NamedTuple):
    """Parameters, tokens and loss of the best model for a budget."""

    parameters: Array
    tokens: Array
    loss: Array


@dataclass(frozen=True)
class ParametricLaw:
    """`L = E + A / N^alpha + B / D^beta` (Hoffmann et al. 2022, equation 2)."""

    A: float
    B: float
    E: float
    alpha: float
    beta: float

    def loss(self, parameters: ArrayLike, tokens: ArrayLike) -> Array:
        """Return the loss of models of so many parameters after so many tokens."""
        n, d = np.asarray(parameters, np.float64), np.asarray(tokens, np.float64)
        return np.asarray(self.E + self.A / n**self.alpha + self.B / d**self.beta)

    @property
    def falls(self) -> bool:
        """Whether the loss falls with size and with length; else no budget has a best size."""
        return min(self.alpha, self.beta) > 0

    @property
    def exponent(self) -> float:
        """The power of the budget with which the best number of parameters grows."""
        return self.beta / (self.alpha + self.beta)

    def optimum(self, flops: ArrayLike) -> Optimum:
        """Return the best model of each budget (equation 4)."""
        budget = np.asarray(flops, np.float64) / FLOPS_PER_PARAMETER
        total = self.alpha + self.beta
        g = (self.alpha * self.A / (self.beta * self.B)) ** (1 / total)
        n = g * budget ** (self.beta / total)
        d = budget ** (self.alpha / total) / g
        return Optimum(n, d, self.loss(n, d))


@dataclass(frozen=True)
class PowerLaw:
    """`y = (scale / x)^exponent` (Kaplan et al. 2020, equations 1.1 to 1.3)."""

    scale: float
    exponent: float

    def __call__(self, x: ArrayLike) -> Array:
        """Return y at x."""
        return np.asarray((self.scale / np.asarray(x, np.float64)) ** self.exponent)


@dataclass(frozen=True)
class KaplanLaw:
    """`L = [(N_c / N)^(alpha_N / alpha_D) + D_c / D]^alpha_D` (Kaplan et al. 2020, eq. 1.5)."""

    n_c: float
    d_c: float
    alpha_n: float
    alpha_d: float

    def loss(self, parameters: ArrayLike, tokens: ArrayLike) -> Array:
        """Return the loss of models of so many parameters after so many tokens."""
        n, d = np.asarray(parameters, np.float64), np.asarray(tokens, np.float64)
        size = (self.n_c / n) ** (self.alpha_n / self.alpha_d)
        return np.asarray((size + self.d_c / d) ** self.alpha_d)


@dataclass(frozen=True)
class StepsLaw:
    """`L = (N_c / N)^alpha_N + (S_c / S_min)^alpha_S` (Kaplan et al. 2020, equation 1.6)."""

    size: PowerLaw
    steps: PowerLaw

    def loss(self, parameters: ArrayLike, steps: ArrayLike) -> Array:
        """Return the loss after so many updates at batches far above the critical size."""
        return self.size(parameters) + self.steps(steps)


def critical_batch(loss: ArrayLike) -> Array:
    """Return the critical batch in tokens, `2e8 / L^(1 / 0.21)` (Kaplan et al. 2020, eq. 1.4)."""
    return np.asarray(2e8 / np.asarray(loss, np.float64) ** (1 / 0.21))


KAPLAN_SIZE = PowerLaw(8.8e13, 0.076)
"""Loss by parameters without embeddings (equation 1.1)."""
KAPLAN_TOKENS = PowerLaw(5.4e13, 0.095)
"""Loss by tokens (equation 1.2)."""
KAPLAN = KaplanLaw(6.4e13, 1.8e13, 0.076, 0.103)
"""Table 2 of Kaplan et al."""
KAPLAN_STEPS = StepsLaw(PowerLaw(6.5e13, 0.077), PowerLaw(2.1e3, 0.76))
"""Table 3 of Kaplan et al."""
HOFFMANN = ParametricLaw(406.4, 410.7, 1.69, 0.34, 0.28)
"""Equation 10 of Hoffmann et al., rounded as printed."""
BESIROGLU = ParametricLaw(482.01, 2085.43, 1.8172, 0.3478, 0.3658)
"""The replication of Besiroglu et al. 2024, which fits the paper's own points."""
