"""Merging adapters into their base, which leaves a plain model that computes the same."""

import mlx.nn as nn

from ...core.errors import RecipeError
from .adapted import Wrapper
from .prefix import PrefixKeys
from .switch import NAME, adaptation_of
from .targets import replace_module


def merge(model: nn.Module) -> None:
    """Merge the adapters of a model into its base; a quantized layer is quantized again.

    Raises:
        RecipeError: an adapter of this kind can't be merged: it is no function of one weight.
    """
    if adaptation_of(model) is None:
        return
    if any(isinstance(module, PrefixKeys) for _, module in model.named_modules()):
        raise RecipeError(
            "A prefix is no function of the model's weights, so it can't be merged into them."
        )
    wrappers = [(path, m) for path, m in model.named_modules() if isinstance(m, Wrapper)]
    plain = [(path, wrapper.merged()) for path, wrapper in wrappers]
    for path, module in plain:
        replace_module(model, path, module)
    del model[NAME]
