"""S4: a state space per feature whose matrix is diagonal plus low rank."""

from typing import ClassVar, Literal

import mlx.core as mx
import numpy as np

from ...ops.complex import Complex
from ...ops.dplr import dplr_system
from ...ops.hippo import Complexes, Measure, dplr
from ...ops.state_space import MakeSystem
from ..parameter import Role
from ..state_space import StateSpaceKind, StateSpaceMixer

SLOWEST = 1e-4
"""Smallest decay that states start with; only the normal part of `legs` has one."""


class S4(StateSpaceKind):
    """A state space per feature with `A = Λ - P P*`, bilinear: S4.

    Gu, Goel, Ré 2022 ([arXiv:2111.00396](https://arxiv.org/abs/2111.00396)), theorem 1: the HiPPO
    matrix in the basis where it is normal plus low rank. Its kernel comes from powers of the
    discretised matrix, chunk by chunk; it equals the published form, a Cauchy sum and an FFT
    over the whole length. The layer trains C and not C̃ = C (I - Ā^L), which
    belongs to one length L.
    """

    kind: Literal["s4"] = "s4"
    measure: Measure = "legs"
    """HiPPO measure: `legs` remembers all of the past, `lagt` what has not faded exponentially,
    `legt` and `fout` a window."""

    def saved_matrices(self, chunk: int) -> float:
        """Powers of the state matrix, and its inverse."""
        return self.state_dim * (3.0 * chunk + 8.0 * self.state_dim + 40.0)

    def flops(self, dim: int, length: int) -> float:
        """Products of all state spaces, and the state matrix once a chunk."""
        between = 2.0 * self.state_dim**2 / min(self.chunk, length)
        return super().flops(dim, length) + dim * between

    def build(self, dim: int) -> "S4Mixer":
        return S4Mixer(self, dim)


class S4Mixer(StateSpaceMixer):
    """`(x [B, T, D], ctx) -> [B, T, D]`."""

    roles: ClassVar[dict[str, Role]] = {
        "log_A": "own",
        "A_imag": "own",
        "P": "own",
        "B": "own",
        "C": "own",
    }

    def __init__(self, config: S4, dim: int) -> None:
        super().__init__(config, dim)
        form = dplr(config.measure, config.state_dim)
        half = (dim, config.state_dim // 2)
        real = np.maximum(-form.a.real, SLOWEST)
        self.log_A = mx.array(np.broadcast_to(np.log(real), half).astype(np.float32))
        self.A_imag = mx.array(np.broadcast_to(form.a.imag, half).astype(np.float32))
        self.P = _pairs(form.p[:, None], (form.p.shape[0], *half))
        self.B = _pairs(form.b, half)
        self.C = mx.random.normal((*half, 2)) * 0.5**0.5

    def system(self) -> MakeSystem:
        """The discretised state space of all features, in float32."""
        a = Complex(-mx.exp(self.log_A.astype(mx.float32)), self.A_imag.astype(mx.float32))
        p, b, c = (Complex.of(v.astype(mx.float32)) for v in (self.P, self.B, self.C))
        return dplr_system(a, p, b, c, self.steps())


def _pairs(z: Complexes, shape: tuple[int, ...]) -> mx.array:
    """Complex numbers as float32 `[*shape, 2]`."""
    full = np.broadcast_to(z, shape)
    return mx.array(np.stack([full.real, full.imag], axis=-1).astype(np.float32))
