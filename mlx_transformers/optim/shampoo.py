"""Shampoo and SOAP: matrices preconditioned on both sides by the statistics of their gradients."""

from typing import Any, Literal

import mlx.core as mx
import mlx.optimizers as mlx_optim
from pydantic import Field

from .adam import Betas
from .kinds import MAX_DECAY, Eps, Schedule
from .optimizer import DecayingOptimizer
from .periodic import Preconditioned


class KroneckerFactors(Preconditioned):
    """Shampoo's update of a matrix `[R, C]`; other arrays are one column, `[size, 1]`.

    The roots are recomputed inside every update if `every` is 1, else by `refresh_single`; then
    the first update moves nothing, since there is no root yet.
    """

    def __init__(
        self,
        rate: Schedule,
        *,
        eps: float,
        momentum: float,
        decay_rate: float,
        every: int,
        weight_decay: float,
    ) -> None:
        super().__init__()
        self._maybe_schedule("learning_rate", rate)
        self.eps, self.momentum, self.decay_rate = eps, momentum, decay_rate
        self.every, self.decay = every, weight_decay

    def init_single(self, parameter: mx.array, state: dict[str, Any]) -> None:
        """Make the factors `eps I` and their roots."""
        for side, size in zip(("left", "right"), sides(parameter), strict=True):
            state[side] = self.eps * mx.eye(size)
            if self.every > 1:
                state[f"{side}_root"] = mx.eye(size)
        if self.momentum:
            state["m"] = mx.zeros_like(parameter)

    def refresh_single(self, state: dict[str, mx.array]) -> None:
        """Recompute both roots of one parameter."""
        if self.every > 1:
            for side in ("left", "right"):
                state[f"{side}_root"] = inverse_fourth_root(state[side])

    def apply_single(
        self, gradient: mx.array, parameter: mx.array, state: dict[str, Any]
    ) -> mx.array:
        """Return the updated parameter."""
        rate = self.learning_rate.astype(gradient.dtype)
        g = matrix_of(gradient)
        decay, new = (
            (1.0, 1.0) if self.decay_rate == 1.0 else (self.decay_rate, 1 - self.decay_rate)
        )
        state["left"] = decay * state["left"] + new * (g @ g.T)
        state["right"] = decay * state["right"] + new * (g.T @ g)
        if self.every == 1:
            left, right = inverse_fourth_root(state["left"]), inverse_fourth_root(state["right"])
        else:
            left, right = state["left_root"], state["right_root"]
        update = (left @ g @ right).reshape(parameter.shape)
        if self.every > 1:
            update = mx.where(self.step > 1, update, 0.0)
        if self.momentum:
            update = state["m"] = self.momentum * state["m"] + update
        return parameter * (1 - rate * self.decay) - rate * update


class Shampoo(DecayingOptimizer):
    """Shampoo (Gupta, Koren & Singer 2018, algorithm 1); at every update of a matrix `[R, C]`:

        L = L + g g^T        R = R + g^T g        both from eps · I
        w = w (1 - rate · weight_decay) - rate · L^-1/4 g R^-1/4

    A vector is a matrix of one column; a stack of matrices is flattened to `[E · R, C]`. Memory
    grows with `R² + C²`. With `decay_rate` below 1 the sums are running averages.
    """

    kind: Literal["shampoo"] = "shampoo"
    eps: Eps = 1e-4
    """Start of the factors, times the identity."""
    momentum: float = Field(default=0.0, ge=0.0, le=MAX_DECAY)
    """Decay rate of the momentum of preconditioned gradients; 0 has none."""
    decay_rate: float = Field(default=1.0, gt=0.0, le=1.0)
    """Decay rate of the factors; 1 sums them up, as the paper does."""
    every: int = Field(default=1, ge=1)
    """Updates between two computations of the roots; above 1 the first update moves nothing."""

    @property
    def refreshes(self) -> bool:
        """Whether roots are computed between updates, and not inside each."""
        return self.every > 1

    @property
    def pointwise(self) -> bool:
        """False: an update depends on the whole matrix."""
        return False

    def group(self, rate: Schedule, weight_decay: float) -> mlx_optim.Optimizer:
        return KroneckerFactors(
            rate,
            eps=self.eps,
            momentum=self.momentum,
            decay_rate=self.decay_rate,
            every=self.every,
            weight_decay=weight_decay,
        )


class RotatedAdam(Preconditioned):
    """SOAP's update: Adam in the eigenbases of the two factors; vectors have plain Adam."""

    def __init__(
        self,
        rate: Schedule,
        *,
        betas: tuple[float, float],
        factor_decay: float,
        eps: float,
        every: int,
        weight_decay: float,
    ) -> None:
        super().__init__()
        self._maybe_schedule("learning_rate", rate)
        self.betas, self.factor_decay, self.eps = betas, factor_decay, eps
        self.every, self.decay = every, weight_decay

    def init_single(self, parameter: mx.array, state: dict[str, Any]) -> None:
        """Make zero moments, and for matrices zero factors with the identity as bases."""
        state["m"], state["v"] = mx.zeros_like(parameter), mx.zeros_like(parameter)
        if parameter.ndim > 1:
            for side, size in zip(("left", "right"), sides(parameter), strict=True):
                state[side], state[f"{side}_basis"] = mx.zeros((size, size)), mx.eye(size)

    def refresh_single(self, state: dict[str, mx.array]) -> None:
        """Move both bases by a power iteration with QR, and the second moment's order with them."""
        for axis, side in enumerate(("left", "right")):
            if side not in state:
                continue
            factor, basis = state[side], state[f"{side}_basis"]
            order = mx.argsort(-mx.diag(basis.T @ factor @ basis))
            v = matrix_of(state["v"])
            state["v"] = mx.take(v, order, axis=axis).reshape(state["v"].shape)
            power = factor @ mx.take(basis, order, axis=1)
            state[f"{side}_basis"] = mx.linalg.qr(power, stream=mx.cpu)[0]

    def apply_single(
        self, gradient: mx.array, parameter: mx.array, state: dict[str, Any]
    ) -> mx.array:
        """Return the updated parameter."""
        rate = self.learning_rate.astype(gradient.dtype)
        b1, b2 = self.betas
        t = self.step.astype(mx.float32)
        m = state["m"] = b1 * state["m"] + (1 - b1) * gradient
        rotated, rotated_m = gradient, m
        if "left" in state:
            g, decay = matrix_of(gradient), self.factor_decay
            left, right = state["left_basis"], state["right_basis"]
            rotated = (left.T @ g @ right).reshape(gradient.shape)
            rotated_m = (left.T @ matrix_of(m) @ right).reshape(m.shape)
            state["left"] = decay * state["left"] + (1 - decay) * (g @ g.T)
            state["right"] = decay * state["right"] + (1 - decay) * (g.T @ g)
        v = state["v"] = b2 * state["v"] + (1 - b2) * mx.square(rotated)
        root = mx.sqrt(v / (1 - mx.power(b2, t))) + self.eps
        update: mx.array = rotated_m / (1 - mx.power(b1, t)) / root
        if "left" in state:
            update = (left @ matrix_of(update) @ right.T).reshape(parameter.shape)
        return (parameter - rate * update) * (1 - rate * self.decay)


class Soap(DecayingOptimizer):
    """SOAP (Vyas et al. 2025, algorithm 3): Adam in the eigenbases of Shampoo's factors.

        L = b L + (1 - b) g g^T        R = b R + (1 - b) g^T g        Q_L, Q_R their eigenvectors
        w = w - rate · Q_L Adam(Q_L^T g Q_R) Q_R^T, then decoupled weight decay

    Every `every` updates the bases move by one power iteration with a QR decomposition. They begin
    as the identity, so the first updates are Adam's; the published code skips the first one.
    Vectors have Adam; a stack of matrices is flattened to `[E · R, C]`.
    """

    kind: Literal["soap"] = "soap"
    betas: Betas = (0.95, 0.95)
    """Decay rates of the first and second moment."""
    factor_decay: float = Field(default=0.95, ge=0.0, le=MAX_DECAY)
    """Decay rate of the two factors."""
    eps: Eps = 1e-8
    """Added to the root, so that a gradient of 0 is not divided by 0."""
    every: int = Field(default=10, ge=1)
    """Updates between two moves of the bases."""

    @property
    def refreshes(self) -> bool:
        """True: the bases move between updates."""
        return True

    @property
    def pointwise(self) -> bool:
        """False: an update depends on the whole matrix."""
        return False

    def group(self, rate: Schedule, weight_decay: float) -> mlx_optim.Optimizer:
        return RotatedAdam(
            rate,
            betas=self.betas,
            factor_decay=self.factor_decay,
            eps=self.eps,
            every=self.every,
            weight_decay=weight_decay,
        )


def matrix_of(x: mx.array) -> mx.array:
    """Return an array as a matrix: its last axis, or for a vector one column."""
    return x.reshape(-1, x.shape[-1]) if x.ndim > 1 else x.reshape(-1, 1)


def sides(parameter: mx.array) -> tuple[int, int]:
    """Return the rows and columns of `matrix_of` a parameter."""
    columns = parameter.shape[-1] if parameter.ndim > 1 else 1
    return parameter.size // columns, columns


def inverse_fourth_root(factor: mx.array) -> mx.array:
    """Return `factor^(-1/4)` of a symmetric positive matrix, by its eigenvalues on the CPU."""
    values, vectors = mx.linalg.eigh(factor, stream=mx.cpu)
    smallest = 1e-7 * mx.maximum(values[-1], 1e-30)
    roots = mx.power(mx.maximum(values, smallest), -0.25)
    return (vectors * roots) @ vectors.T
