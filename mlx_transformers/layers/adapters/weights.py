"""Weights of an adapted model: its own, those of its frozen base, and those of a plain model."""

from collections.abc import Mapping

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_unflatten

from ...core.errors import CheckpointError
from ...core.tree import Tree
from ..linear import matrix
from ..packed import PARTS, packing_of
from ..parameter import parameters_of
from .adapted import Wrapper, set_weight
from .adapter import plain_name
from .switch import Added, adaptation_of
from .targets import module_at

Weights = dict[str, mx.array]


def own_weights(model: nn.Module) -> Tree:
    """The parameters that a checkpoint holds: all of a plain model; of an adapted one its adapters,
    and what is trained beside them."""
    if adaptation_of(model) is None:
        return model.parameters()
    names = _own_names(model)
    return tree_unflatten([(n, a) for n, a in tree_flatten(model.parameters()) if n in names])


def base_weights(model: nn.Module) -> Weights:
    """The parameters of an adapted model that no step changes, by path; none of a plain model."""
    if adaptation_of(model) is None:
        return {}
    adapter_names = _own_names(model)
    return {n: a for n, a in tree_flatten(model.parameters()) if n not in adapter_names}


def restore_base(model: nn.Module, saved: Mapping[str, mx.array]) -> None:
    """Put back the `base_weights` of a run.

    Raises:
        CheckpointError: they belong to another model.
    """
    ours = base_weights(model)
    wrong = [
        name
        for name in {*ours, *saved}
        if name not in ours or name not in saved or ours[name].shape != saved[name].shape
    ]
    if wrong:
        raise CheckpointError(
            f"The base of the run doesn't fit its recipe: {', '.join(sorted(wrong)[:12])} "
            f"differ{'s' if len(wrong) == 1 else ''}. It belongs to another recipe."
        )
    model.update(tree_unflatten(list(saved.items())))


def plain_weights(model: nn.Module) -> Weights:
    """The weights of the base under the names of a plain model, dequantized and without adapters;
    of a plain model its own."""
    added = _added(model)
    weights: Weights = {}
    for name, array in tree_flatten(model.parameters()):
        module, _, leaf = name.rpartition(".")
        if name.startswith(added) or (leaf in PARTS[1:] and _is_packed(model, module)):
            continue
        packed = leaf == "weight" and _is_packed(model, module)
        weights[plain_name(name)] = matrix(module_at(model, module)) if packed else array
    return weights


def tables(model: nn.Module) -> frozenset[str]:
    """The paths of the tables that rows are looked up in, in the model without adapters."""
    kinds = (nn.Embedding, nn.QuantizedEmbedding)
    paths = (path for path, module in model.named_modules() if isinstance(module, kinds))
    return frozenset(plain_name(path) for path in paths)


def load_plain(model: nn.Module, weights: Mapping[str, mx.array]) -> None:
    """Set the base of a model from the weights of a plain one, quantizing where the base is.

    Adapters that begin as functions of the base begin anew.

    Args:
        weights: by the names of `plain_weights`; all of them.
    """
    added = _added(model)
    for name, _ in tree_flatten(model.parameters()):
        module, _, leaf = name.rpartition(".")
        if name.startswith(added):
            continue
        if not _is_packed(model, module):
            holder = module_at(model, module) if module else model
            holder[leaf] = weights[plain_name(name)]
        elif leaf not in PARTS[1:]:
            if leaf == "weight":
                set_weight(module_at(model, module), weights[plain_name(name)])
            else:
                module_at(model, module)[leaf] = weights[plain_name(name)]
    for _, wrapper in model.named_modules():
        if isinstance(wrapper, Wrapper):
            wrapper.start()


def load_packed(model: nn.Module, stored: Mapping[str, mx.array]) -> None:
    """Set the packed arrays of a model that another model packs alike, without rounding again.

    Args:
        stored: arrays by the names of a plain model; those of other shapes are passed over.
    """
    for name, array in tree_flatten(model.parameters()):
        module, _, leaf = name.rpartition(".")
        saved = stored.get(plain_name(name))
        if saved is None or leaf not in PARTS or not _is_packed(model, module):
            continue
        if saved.shape == array.shape:
            module_at(model, module)[leaf] = saved.astype(array.dtype)


def _own_names(model: nn.Module) -> set[str]:
    added = _added(model)
    trained = {name for name, _ in tree_flatten(model.trainable_parameters())}
    return trained | {p.path for p in parameters_of(model) if p.path.startswith(added)}


def _added(model: nn.Module) -> tuple[str, ...]:
    """The paths below which parameters are those of adapters."""
    return tuple(f"{path}." for path, module in model.named_modules() if isinstance(module, Added))


def _is_packed(model: nn.Module, path: str) -> bool:
    return bool(path) and packing_of(module_at(model, path)) is not None
