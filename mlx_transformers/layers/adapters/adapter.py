"""The slot `adapt`: adapters of a frozen model, and which of its own weights are trained beside."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, Literal

import mlx.nn as nn
from mlx.utils import tree_flatten
from pydantic import Field

from ...core.errors import RecipeError
from ...ops.packed import Packing
from ...recipe.config import Kind
from ..freeze import matching
from ..linear import matrix
from ..packed import PARTS, pack_layers, packing_of
from ..parameter import Parameter, parameters_of
from .adapted import Adapted, Update, wrap
from .switch import NAME, Adaptation
from .targets import Target, candidates, matches, replace_module, select

Rank = Annotated[int, Field(ge=1)]
Factor = Annotated[float, Field(gt=0)]
Biases = Literal["none", "all", "adapted"]


class AdapterKind(Kind, ABC):
    """Adapters of a model whose own weights are frozen.

    Only adapters, and what `train` and `bias` name, are trained: gradients, optimizer state,
    averages and checkpoints hold them alone. A run keeps its base once, beside its checkpoints.
    """

    train: list[str] = Field(default_factory=list)
    """Modules or parameters of the base that are trained whole beside the adapters, by path, such
    as a new "head" or "pool"; `*` matches as in file names."""
    base_bits: Literal[2, 3, 4, 5, 6, 8] | None = None
    """Bits of a number of the base's linear layers, quantized by MLX's affine mode (QLoRA: Dettmers
    et al. 2023); none leaves the base as it is."""
    base_group: Literal[32, 64, 128] = 64
    """Numbers of the quantized base that share a scale and a bias."""

    @abstractmethod
    def attach(self, model: nn.Module, adaptation: Adaptation) -> None:
        """Add the adapters to a model whose weights are frozen.

        Raises:
            RecipeError: they have no place in it.
        """

    def trained_biases(self) -> Biases:
        """The biases of the base that are trained too."""
        return "none"


class LayerAdapterKind(AdapterKind):
    """Adapters of single layers, each with an update of its weight."""

    targets: list[str] = Field(default_factory=lambda: ["all"])
    """Layers with an adapter: ends of paths such as "mixer.q" or "blocks.0.*", in which `*` matches
    as in file names, or roles: "all" (linear layers of the blocks), "mixer", "cross", "ffn",
    "experts", "router", "embedding", "head"."""
    exclude: list[str] = Field(default_factory=list)
    """Layers without one, though `targets` names them."""
    layers: list[int] | None = None
    """Numbers of the layers of a stack that have adapters; none means all. Layers outside of the
    stacks, such as a head, are not counted."""
    bias: Biases = "none"
    """Biases of the base that are trained too: none, all, or those of the layers with an
    adapter."""

    @abstractmethod
    def update(self, target: Target, shape: tuple[int, ...], adaptation: Adaptation) -> Update:
        """The update of a layer whose weight is `shape`, `[..., out, in]`."""

    def attach(self, model: nn.Module, adaptation: Adaptation) -> None:
        chosen = self.chosen(model)
        for number, target in enumerate(chosen):
            update = self.update(target, tuple(matrix(target.module).shape), adaptation)
            wrapper = wrap(target.module, update, adaptation.switch, number, self.tied_update())
            replace_module(model, target.path, wrapper)
            wrapper.start()

    def chosen(self, model: nn.Module) -> list[Target]:
        """The layers of a model that get an adapter.

        Raises:
            RecipeError: a pattern matches nothing, or no layer is left.
        """
        targets = candidates(model)
        named = select(targets, self.patterns(), self.layers, "adapt.targets")
        left_out = select(targets, self.exclude, None, "adapt.exclude")
        for key, patterns in self.other_patterns().items():
            select(named, patterns, None, key)
        if not (chosen := [target for target in named if target not in left_out]):
            raise RecipeError(
                f"adapt.targets = {self.targets} leaves no layer with an adapter: adapt.exclude or "
                "adapt.layers takes all of them away."
            )
        return chosen

    def trained_biases(self) -> Biases:
        return self.bias

    def patterns(self) -> Sequence[str]:
        """The patterns of all layers with an adapter."""
        return self.targets

    def other_patterns(self) -> dict[str, list[str]]:
        """Patterns of further keys, each of which has to name a layer with an adapter."""
        return {}

    def tied_update(self) -> bool:
        """Whether a head that is tied to an adapted table reads its update."""
        return True


def adapt(model: nn.Module, kind: AdapterKind) -> None:
    """Freeze a model and give it adapters.

    Raises:
        RecipeError: a pattern matches nothing, the adapters have no place, or nothing would be
            trained.
    """
    adaptation = Adaptation()
    model.freeze()
    if kind.base_bits is not None:
        quantize_base(model, kind.base_bits, kind.base_group)
    kind.attach(model, adaptation)
    model[NAME] = adaptation
    parameters = list(parameters_of(model))
    for pattern in kind.train:
        for parameter in matching(parameters, pattern, "adapt.train", plain_name):
            if parameter.name in PARTS and packing_of(parameter.module) is not None:
                raise RecipeError(
                    f"adapt.train = '{pattern}' names {plain_name(parameter.path)}, whose numbers "
                    "are packed in few bits and can't be trained: name others, or leave the base "
                    "plain."
                )
            parameter.module.unfreeze(keys=[parameter.name], recurse=False)
    train_biases(model, kind.trained_biases(), parameters)
    if not tree_flatten(model.trainable_parameters()):
        raise RecipeError(
            f"adapt.kind = '{kind.kind}' leaves nothing to train: the model has no such parameter."
            + (" It has no biases." if kind.kind == "bitfit" else "")
        )


def train_biases(model: nn.Module, which: Biases, parameters: Sequence[Parameter]) -> None:
    """Unfreeze the biases of the base, all or those of adapted layers."""
    adapted = {id(m.base) for _, m in model.named_modules() if isinstance(m, Adapted)}
    for parameter in parameters:
        chosen = which == "all" or (which == "adapted" and id(parameter.module) in adapted)
        if parameter.role == "bias" and chosen:
            parameter.module.unfreeze(keys=[parameter.name], recurse=False)


def plain_name(path: str) -> str:
    """The path of a parameter in the model without adapters."""
    return ".".join(part for part in path.split(".") if part != "base")


def quantize_base(model: nn.Module, bits: int, group: int) -> None:
    """Quantize the linear layers of all blocks whose widths are multiples of the group.

    Raises:
        RecipeError: no layer has such a width.
    """
    targets = [t for t in candidates(model) if matches(t, "all") and packing_of(t.module) is None]
    fitting = [t.path for t in targets if matrix(t.module).shape[-1] % group == 0]
    if not fitting:
        raise RecipeError(
            f"adapt.base_bits = {bits}: no linear layer of a block has a width that is a multiple "
            f"of adapt.base_group = {group}. Choose a smaller group."
        )
    pack_layers(model, dict.fromkeys(fitting, Packing(bits, group)))
    model.freeze()
