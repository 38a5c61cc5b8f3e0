"""S4D: a diagonal state space per feature."""

from typing import ClassVar, Literal

import mlx.core as mx
import numpy as np
from pydantic import Field

from ...ops.complex import Complex
from ...ops.hippo import DiagonalStart, diagonal
from ...ops.state_space import Discretization, MakeSystem, diagonal_system
from ..parameter import Role
from ..state_space import StateSpaceKind, StateSpaceMixer


class S4d(StateSpaceKind):
    """A diagonal state space per feature: `x' = A x + u`, `y = 2 Re(C x) + D u`.

    Gu et al. 2022 ([arXiv:2206.11893](https://arxiv.org/abs/2206.11893)), listing 1: B is one,
    since it multiplies C. Real parts of A are `-exp(log_A)`.
    """

    kind: Literal["s4d"] = "s4d"
    start: DiagonalStart = "lin"
    """Eigenvalues A at the start: S4D-Lin, -Inv, -Real, -LegS, or two variants of S4's code."""
    discretization: Discretization = Field("zoh")
    """Zero-order hold or the bilinear transform."""

    def saved_matrices(self, chunk: int) -> float:
        """Powers of the eigenvalues."""
        return 11.0 * self.state_dim * chunk

    def build(self, dim: int) -> "S4dMixer":
        return S4dMixer(self, dim)


class S4dMixer(StateSpaceMixer):
    """`(x [B, T, D], ctx) -> [B, T, D]`."""

    roles: ClassVar[dict[str, Role]] = {"log_A": "own", "A_imag": "own", "C": "own"}

    def __init__(self, config: S4d, dim: int) -> None:
        super().__init__(config, dim)
        self.discretization: Discretization = config.discretization
        start = np.broadcast_to(
            diagonal(config.start, config.state_dim), (dim, config.state_dim // 2)
        )
        self.log_A = mx.array(np.log(-start.real).astype(np.float32))
        self.A_imag = mx.array(start.imag.astype(np.float32))
        self.C = mx.random.normal((*self.log_A.shape, 2)) * 0.5**0.5

    def system(self) -> MakeSystem:
        """The discretised state space of all features, in float32."""
        log_a, imaginary, c = (v.astype(mx.float32) for v in (self.log_A, self.A_imag, self.C))
        ones = Complex(mx.ones_like(log_a), mx.zeros_like(log_a))
        a = Complex(-mx.exp(log_a), imaginary)
        return diagonal_system(a, ones, Complex.of(c), self.steps(), self.discretization)
