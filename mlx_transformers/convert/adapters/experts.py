"""Low-rank updates of experts: one module per expert, or factors of their stacked parameters."""

from collections.abc import Callable, Mapping, Sequence

import mlx.core as mx

from ...core.errors import ConvertError
from .layout import WEIGHT, Factors, Layout


def stacked_factors(updates: Mapping[int, Factors], shape: Sequence[int], where: str) -> Factors:
    """The update of a stack `[E, out, in]` from those of some of its experts; others have zeros.

    Raises:
        ConvertError: experts have ranks or scales of their own.
    """
    first = next(iter(updates.values()))
    if any(
        update.a.shape != first.a.shape or update.scale != first.scale
        for update in updates.values()
    ):
        raise ConvertError(f"{where}: the experts of a layer have different ranks or scales.")
    zeros = (mx.zeros(first.a.shape), mx.zeros(first.b.shape))
    pairs = [(updates[e].a, updates[e].b) if e in updates else zeros for e in range(shape[0])]
    return Factors(mx.stack([a for a, _ in pairs]), mx.stack([b for _, b in pairs]), first.scale)


def expert_factors(
    layout: Layout,
    module: str,
    pairs: Sequence[tuple[mx.array, mx.array]],
    scale: Callable[[str, int], float],
    where: str,
) -> dict[str, Factors]:
    """The updates of our stacks for PEFT's factors of stacked parameters (`target_parameters`).

    `gate_up_proj [E, 2F, D]` holds gate, then up; `down_proj [E, D, F]`. A is `[E * R, in]`, expert
    by expert; B is `[out, R * E]`, whose experts are the fast axis.

    Args:
        layout: names of the base.
        module: the module that holds the parameters.
        pairs: the factors (A, B) of its parameters.
        scale: the factor s of a parameter's name and its rank R.
        where: the file, for errors.

    Raises:
        ConvertError: the module has no such experts, or factors don't fit their number or shapes.
    """
    prefix = layout.renamed(f"{module}.0{WEIGHT}").removesuffix(f".0{WEIGHT}")
    stacks = {
        path.rpartition(".")[2]: path
        for name, move in layout.moves.items()
        if name.startswith(f"{prefix}.")
        for path in layout.layers(move)
    }
    if not {"gate", "up", "down"} <= set(stacks):
        raise ConvertError(f"{where}: {module} has no experts of the form gate, up and down here.")
    shape = tuple(layout.shapes[stacks["down"] + WEIGHT])
    n_experts, dim, hidden = shape
    updates: dict[str, Factors] = {}
    for a, b in pairs:
        if len(a) % n_experts or len(a) != b.shape[1]:
            raise ConvertError(
                f"{where}: factors {list(a.shape)} and {list(b.shape)} of {module} don't have one "
                f"rank for each of its {n_experts} experts."
            )
        rank = len(a) // n_experts
        own_a = a.reshape(n_experts, rank, -1)
        own_b = b.reshape(-1, rank, n_experts).transpose(2, 0, 1)
        if own_a.shape[2] == dim and own_b.shape[1] == 2 * hidden and stacks["gate"] not in updates:
            gate, up = mx.split(own_b, 2, axis=1)
            factor = scale(f"{module}.gate_up_proj", rank)
            updates[stacks["gate"]] = Factors(own_a, gate, factor)
            updates[stacks["up"]] = Factors(own_a, up, factor)
        elif own_a.shape[2] == hidden and own_b.shape[1] == dim:
            factor = scale(f"{module}.down_proj", rank)
            updates[stacks["down"]] = Factors(own_a, own_b, factor)
        else:
            raise ConvertError(
                f"{where}: factors {list(a.shape)} and {list(b.shape)} of {module} fit neither "
                "gate_up_proj nor down_proj."
            )
    return updates
