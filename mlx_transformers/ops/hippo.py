"""HiPPO matrices and their normal plus low-rank form, in float64 NumPy, for initialisation.

Gu et al. 2020 ([arXiv:2008.07669](https://arxiv.org/abs/2008.07669)), equation 30; Gu et al. 2022,
S4 ([arXiv:2111.00396](https://arxiv.org/abs/2111.00396)), theorem 1 and appendix C.1; Gu et al.
2022, S4D ([arXiv:2206.11893](https://arxiv.org/abs/2206.11893)), section 4. Eigenvalue
decompositions run here, when a model is built, and never in the compiled step.
"""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Complexes = NDArray[np.complex128]
Measure = Literal["legs", "legt", "lagt", "fout"]
"""How the state remembers the past: scaled Legendre polynomials (all of it), translated Legendre
(a window), translated Laguerre (all of it, fading exponentially), truncated Fourier (a window)."""
DiagonalStart = Literal["lin", "inv", "inv2", "quad", "real", "legs"]
"""Starts of a diagonal state matrix: S4D, section 4."""


class Dplr(NamedTuple):
    """Half of a real system in the basis where it is diagonal plus low rank.

    `A = Λ - P P*`, with the conjugate of each entry implied.

    Attributes:
        a: Λ `[N / 2]`, imaginary parts negative and ascending.
        p: P `[rank, N / 2]`.
        b: B `[N / 2]`.
    """

    a: Complexes
    p: Complexes
    b: Complexes


def transition(measure: Measure, n: int) -> tuple[Floats, Floats]:
    """The matrices of `x' = A x + B u`: A `[n, n]` and B `[n]`.

    `legt` and `fout` follow the code of S4, whose time scale is half of the HiPPO paper's.
    """
    q = np.arange(n)
    if measure == "fout":
        frequencies = np.stack([np.zeros(n // 2), np.arange(n // 2)], axis=-1).reshape(-1)[1:]
        turn = np.pi * (np.diag(frequencies, -1) - np.diag(frequencies, 1))
        b = fourier_endpoint(n)
        return np.asarray(turn - np.outer(b, b), np.float64), b
    if measure == "lagt":
        return np.eye(n) / 2 - np.tril(np.ones((n, n))), np.ones(n)
    root = np.sqrt(2.0 * q + 1)
    row, column = q[:, None], q[None, :]
    if measure == "legt":
        sign = np.where(row < column, (-1.0) ** (row - column), 1.0)
        return -np.outer(root, root) * sign / 2, root / 2
    a = -np.where(row > column, np.outer(root, root), 0.0) - np.diag(q + 1.0).astype(np.float64)
    return a, root


def rank_correction(measure: Measure, n: int) -> Floats:
    """P `[rank, n]` such that `A + P^T P` is a normal matrix."""
    if measure == "fout":
        return fourier_endpoint(n)[None]
    if measure == "lagt":
        return np.full((1, n), np.sqrt(0.5))
    if measure == "legs":
        terms: np.ndarray = np.sqrt(np.arange(n) + 0.5)
        return terms[None]
    root = np.sqrt(np.arange(n) + 0.5)
    odd = np.arange(n) % 2 == 1
    return np.stack([root * odd, root * ~odd])


def fourier_endpoint(n: int) -> Floats:
    """Values of the Fourier basis at the end of the window."""
    b = np.zeros(n)
    b[0::2] = np.sqrt(2.0)
    b[0] = 1.0
    return b


def dplr(measure: Measure, n: int) -> Dplr:
    """The diagonal plus low-rank form of a HiPPO matrix of even size n."""
    a, b = transition(measure, n)
    p = rank_correction(measure, n)
    normal = a + p.T @ p
    # The normal matrix is a multiple of the identity plus a skew-symmetric matrix.
    imaginary, basis = np.linalg.eigh(-1j * (normal - normal.T) / 2)
    half = basis[:, : n // 2].astype(np.complex128)
    if abs(imaginary[n // 2 - 1]) < 1e-9:
        # The Fourier basis has the frequency zero twice: its plane is one conjugate pair.
        half[:, -1] = 0
        half[:2, -1] = [np.sqrt(0.5), 1j * np.sqrt(0.5)]
    a = np.mean(np.diag(normal)) + 1j * imaginary[: n // 2]
    return Dplr(a.astype(np.complex128), p @ half.conj(), b @ half.conj())


def diagonal(start: DiagonalStart, n: int) -> Complexes:
    """Half of the eigenvalues `[n / 2]` of a diagonal state matrix of even size n.

    Of each pair of conjugates it has the one with the negative imaginary part.
    """
    if start == "legs":
        return dplr("legs", n).a
    k = np.arange(n // 2)
    if start == "real":
        return np.asarray(-(k + 1.0), np.complex128)
    imaginary = {
        "lin": np.pi * k,
        "inv": n / np.pi * (n / (2 * k + 1) - 1),
        "inv2": n / np.pi * (n / (k + 1) - 1),
        "quad": (1 + 2 * k) ** 2 / np.pi,
    }
    return np.asarray(-0.5 - 1j * imaginary[start], np.complex128)
