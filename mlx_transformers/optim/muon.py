"""Muon for the hidden matrices, AdamW for all other parameters."""

from typing import Annotated, Any, Literal

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as mlx_optim
from mlx.utils import tree_flatten
from pydantic import Field

from ..core.errors import RecipeError
from .adam import AdamW, Betas
from .kinds import MAX_DECAY, MAX_LEARNING_RATE, Eps, Schedule
from .layerwise import RateTransform
from .low_precision_state import LowPrecisionState
from .optimizer import DecayingOptimizer, Filter, Group, everything, of_role

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients a, b, c of Jordan's quintic: steepest at 0, and bounded on [0, 1]."""


class OrthogonalMomentum(mlx_optim.Muon):
    """MLX's Muon with decoupled decay, stacks of matrices, and a choice of scale.

    MLX adds the decay to the gradient, whose size orthogonalisation then removes, and it flattens
    a stack `[E, out, in]` into one matrix; here each matrix is orthogonalised alone. A filter
    `[out, height, width, in]` of a 2-D convolution is one matrix with a row for each output, and
    its scale is that of a matrix `[height, width]`, as in Jordan's code.
    """

    def __init__(
        self,
        rate: Schedule,
        *,
        scale: str,
        weight_decay: float,
        momentum: float,
        nesterov: bool,
        ns_steps: int,
        coefficients: tuple[float, float, float],
    ) -> None:
        super().__init__(rate, momentum, 0.0, nesterov, ns_steps)
        self.coefficients = coefficients
        self.scale = scale
        self.decoupled_decay = weight_decay

    def apply_single(
        self, gradient: mx.array, parameter: mx.array, state: dict[str, Any]
    ) -> mx.array:
        """Return the updated parameter."""
        momentum = self.momentum
        state["v"] = momentum * state["v"] + (1 - momentum) * gradient
        update = state["v"]
        if self.nesterov:
            update = (1 - momentum) * gradient + momentum * update
        rate = self.learning_rate.astype(gradient.dtype)
        rows, columns = gradient.shape[1:3] if gradient.ndim == 4 else gradient.shape[-2:]
        if gradient.ndim == 4:
            update = update.flatten(1)
        if self.scale == "rms":
            factor = 0.2 * max(rows, columns) ** 0.5
        else:
            factor = max(1.0, rows / columns) ** 0.5
        step: mx.array = rate * factor * orthogonalize(update, self.ns_steps, self.coefficients)
        return parameter * (1 - rate * self.decoupled_decay) - step.reshape(parameter.shape)


class Muon(LowPrecisionState, DecayingOptimizer):
    """Muon, momentum orthogonalised by Newton-Schulz iterations (Jordan et al. 2024).

        v = momentum · v + (1 - momentum) · g
        u = orthogonalize(v)            (nesterov: of (1 - momentum) · g + momentum · v)
        w = w (1 - rate · weight_decay) - rate · scale · u

    `scale` is `sqrt(max(1, rows / columns))` (spectral: Jordan's) or
    `0.2 sqrt(max(rows, columns))` (rms: an update as large as AdamW's, so that AdamW's rate and
    decay carry over; Liu et al. 2025, section 2.2).

    Only hidden matrices are orthogonalised. AdamW, with the same schedule, updates embedding
    tables, vectors, and all parameters below one of the module names of `rest`.
    """

    kind: Literal["muon"] = "muon"
    momentum: float = Field(default=0.95, ge=0.0, le=MAX_DECAY)
    """Decay rate of the momentum."""
    nesterov: bool = True
    """Nesterov momentum."""
    iterations: int = Field(default=5, ge=1)
    """Newton-Schulz iterations."""
    coefficients: Annotated[tuple[float, float, float], Field(strict=False)] = NEWTON_SCHULZ
    """Coefficients a, b and c of the iteration's quintic."""
    scale: Literal["spectral", "rms"] = "spectral"
    """Scale of an orthogonalised update."""
    rest: Annotated[tuple[str, ...], Field(strict=False)] = ("embed", "position", "head")
    """Names of modules whose parameters AdamW updates: embedding, positions, head."""
    rest_learning_rate: float | None = Field(default=None, gt=0.0, le=MAX_LEARNING_RATE)
    """AdamW's peak learning rate; none: `learning_rate`."""
    rest_betas: Betas = (0.9, 0.999)
    """AdamW's betas."""
    rest_eps: Eps = 1e-8
    """AdamW's eps."""

    @property
    def pointwise(self) -> bool:
        """False: an update depends on the whole matrix."""
        return False

    def group(self, rate: Schedule, weight_decay: float) -> mlx_optim.Optimizer:
        muon = OrthogonalMomentum(
            rate,
            scale=self.scale,
            weight_decay=weight_decay,
            momentum=self.momentum,
            nesterov=self.nesterov,
            ns_steps=self.iterations,
            coefficients=self.coefficients,
        )
        return self.pack_state(muon)

    def groups(self, model: nn.Module, total_steps: int, transform: RateTransform) -> list[Group]:
        """Return Muon for the matrices outside `rest`, and AdamW for everything else.

        Raises:
            RecipeError: no module has one of the names of `rest`.
        """
        hidden = self._hidden(model)
        peak = self.rest_learning_rate or self.learning_rate
        rest_rate = transform(self.schedule.build(peak, total_steps))
        adamw = AdamW(
            learning_rate=self.learning_rate,
            betas=self.rest_betas,
            eps=self.rest_eps,
            state=self.state,
        ).group
        muon = self.group(transform(self.rate(total_steps)), self.weight_decay)
        groups: list[Group] = [(hidden, muon)]
        if self.weight_decay == 0.0:
            return [*groups, (everything, adamw(rest_rate, 0.0))]
        return groups + self.decay_groups(model, lambda decay: adamw(rest_rate, decay))

    def _hidden(self, model: nn.Module) -> Filter:
        """Accept the matrices below no module named in `rest`."""
        names = set(self.rest)
        paths = [path for path, _ in tree_flatten(model.trainable_parameters())]
        if names and not any(names.intersection(path.split(".")) for path in paths):
            tops = sorted({path.split(".")[0] for path in paths})
            raise RecipeError(
                f"[optim] rest = {list(self.rest)}: no module of the model has one of these "
                f"names, so Muon would orthogonalise its head. Its modules: {', '.join(tops)}. "
                "Name the head, or set rest = []."
            )
        matrix = of_role(model, "matrix")
        return lambda path, p: matrix(path, p) and not names.intersection(path.split("."))


def orthogonalize(
    x: mx.array,
    iterations: int,
    coefficients: tuple[float, float, float] = NEWTON_SCHULZ,
) -> mx.array:
    """Approximate `U V^T` of the singular value decomposition of each matrix, `[..., R, C]`.

    Newton-Schulz with a quintic (Jordan et al. 2024): `x = a x + (b A + c A²) x`, `A = x x^T`,
    from `x / |x|_F`. Singular values end near 1 (about 0.7 to 1.2), which is enough.
    """
    a, b, c = coefficients
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.swapaxes(-1, -2)
    x = x / (mx.sqrt(mx.sum(mx.square(x), axis=(-2, -1), keepdims=True)) + 1e-7)
    for _ in range(iterations):
        gram = x @ x.swapaxes(-1, -2)
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x.swapaxes(-1, -2) if tall else x
