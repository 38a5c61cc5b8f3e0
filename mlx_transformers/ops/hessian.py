"""Second-order statistics of a linear layer's inputs, for GPTQ and SparseGPT.

The squared error of a layer's outputs is a quadratic form of its weights with the Hessian
`H = 2 XᵀX / n`. Computed once per layer, in NumPy and float64: MLX has no float64 on a GPU.
"""

import numpy as np

DAMP = 0.01
"""Share of the mean diagonal that is added to the diagonal (both papers' code)."""


def silence_dead(weight: np.ndarray, h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return weight and Hessian with inputs that are always 0 taken out: weight 0, diagonal 1."""
    dead = np.diag(h) == 0
    weight, h = weight.copy(), h.copy()
    weight[:, dead] = 0
    h[dead, dead] = 1
    return weight, h


def inverse_factor(h: np.ndarray, damp: float = DAMP) -> np.ndarray:
    """Return the upper Cholesky factor U of the inverse of the damped Hessian: `UᵀU = H⁻¹`.

    Row j of U holds what the error of column j adds to the later columns (Frantar et al. 2022,
    section 3.3, step 3).
    """
    damped = h + damp * np.mean(np.diag(h)) * np.eye(len(h))
    return np.ascontiguousarray(np.linalg.cholesky(np.linalg.inv(damped)).T)
