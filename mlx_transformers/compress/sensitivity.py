"""Mixed precision: chooses bits per layer by sensitivity, within a budget of bits.

The sensitivity of a layer to a rounding Δ is the estimated increase of the loss,
`½ Σ g² Δ² / tokens` over rows of text and weights, with g the gradient of the loss of one row: the
second-order Taylor term with the diagonal of the empirical Fisher information in place of the
Hessian (Kim et al. 2023, SqueezeLLM, section 4.1). It is the mean of `½ Σ (g·Δ)² / tokens` over
independent errors of rounding, and with few rows far less noisy than that.
"""

from collections.abc import Iterable, Mapping, Sequence

import mlx.core as mx
from mlx.utils import tree_flatten, tree_unflatten

from ..core.errors import RecipeError
from ..layers.linear import matrix
from ..layers.packed import packable
from ..models.model import Model
from ..ops.distillation import log_softmax
from ..ops.packed import BITS, Packing, rounded
from .capture import logits_of

Costs = dict[str, dict[Packing, float]]
"""Estimated loss in nats per token by layer and packing."""


def costs_of(
    model: Model, paths: Iterable[str], group_size: int, rows: Sequence[mx.array]
) -> Costs:
    """Estimate the increase of the loss for each layer and number of bits.

    Args:
        model: the plain model.
        paths: its layers.
        group_size: of all packings.
        rows: batches of calibration text, `[B, T + 1]`; gradients are taken row by row.
    """
    able = packable(model)
    weights = {path: matrix(able[path]) for path in paths}
    names = {f"{path}.weight": path for path in weights}
    fisher = {name: mx.zeros_like(weights[path]) for name, path in names.items()}
    for row in (tokens[i : i + 1] for tokens in rows for i in range(len(tokens))):
        for name, gradient in _gradients(model, names, row).items():
            fisher[name] = fisher[name] + mx.square(gradient)
        mx.eval(fisher)
    count = sum(tokens.shape[0] * (tokens.shape[1] - 1) for tokens in rows)
    costs: Costs = {}
    for name, path in names.items():
        squares, weight = fisher.pop(name), weights[path]
        costs[path] = {}
        for how in (Packing(bits, group_size) for bits in BITS):
            loss = (squares * mx.square(rounded(weight, how) - weight)).sum() / 2
            costs[path][how] = float(loss) / count
    return costs


def _gradients(model: Model, names: Iterable[str], row: mx.array) -> dict[str, mx.array]:
    """The gradients of the summed loss of a row `[1, T + 1]` by the weights of these names."""
    parameters = dict(tree_flatten(model.parameters()))

    def loss(params: dict[str, mx.array]) -> mx.array:
        model.update(tree_unflatten(list(params.items())))
        logits = logits_of(model, row[:, :-1])
        picked = mx.take_along_axis(log_softmax(logits), row[:, 1:, None], axis=-1)
        return -picked.sum()

    grads: dict[str, mx.array] = mx.grad(loss)({name: parameters[name] for name in names})
    model.update(tree_unflatten(list(parameters.items())))
    mx.eval(grads)
    return grads


def allocate(costs: Costs, sizes: Mapping[str, int], budget: float) -> dict[str, Packing]:
    """Choose bits per layer greedily: the upgrade with the largest gain per bit first.

    Args:
        costs: by layer and packing.
        sizes: weights of each layer.
        budget: bits per weight on average, scales included.

    Raises:
        RecipeError: the budget is below the fewest bits.
    """
    chosen = {path: min(packings, key=lambda how: how.bits) for path, packings in costs.items()}
    total = sum(sizes.values())
    remaining = budget * total - sum(
        sizes[path] * how.bits_per_weight for path, how in chosen.items()
    )
    if not remaining >= 0:
        raise RecipeError(
            f"{budget:.2f} bits per weight are fewer than the fewest that MLX packs, "
            f"{next(iter(chosen.values())).bits_per_weight:.2f}: raise the budget."
        )
    while True:
        best: tuple[float, str, Packing, float] | None = None
        for path, now in chosen.items():
            for how, cost in costs[path].items():
                extra = sizes[path] * (how.bits_per_weight - now.bits_per_weight)
                if not 0 < extra <= remaining:
                    continue
                gain = (costs[path][now] - cost) / extra
                if gain > 0 and (best is None or gain > best[0]):
                    best = (gain, path, how, extra)
        if best is None:
            return chosen
        chosen[best[1]], remaining = best[2], remaining - best[3]
