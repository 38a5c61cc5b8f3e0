"""The role of every parameter, and its place among the layers.

Modules declare both; nothing is guessed from a shape or a name:

    class MambaMixer(nn.Module):
        roles: ClassVar[dict[str, Role]] = {"A_log": "own", "dt_bias": "own"}

Initialisation, weight decay, Muon and layer-wise learning rates read what is declared here.
"""

from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

import mlx.core as mx
import mlx.nn as nn

from .linear import PackedMatrix, WritesResidual

Role = Literal["matrix", "table", "vector", "bias", "own"]
"""Role of a parameter:

- `matrix`: weight of a linear layer, `[..., out, in]`, or kernel of a convolution. Drawn, decayed,
  and orthogonalised by Muon.
- `table`: embedding table, `[V, D]`. Drawn, and decayed.
- `vector`: gains of norms and other vectors, with the start that their module gives them.
- `bias`: starts at zero.
- `own`: belongs to its module alone, such as a decay rate or the balance of a router. Never drawn,
  decayed, orthogonalised, or cast to a lower precision.
"""

Place = Literal["below", "layers"]
"""Place of a module's child: below the first layer, or a list of the layers themselves."""

LINEAR: dict[str, Role] = {"weight": "matrix", "bias": "bias"}
NORM: dict[str, Role] = {"weight": "vector", "bias": "bias"}
PACKED: dict[str, Role] = {"weight": "own", "scales": "own", "biases": "own", "bias": "bias"}

OF_MLX: Mapping[type, dict[str, Role]] = {
    nn.Linear: LINEAR,
    nn.AllToShardedLinear: LINEAR,
    nn.ShardedToAllLinear: LINEAR,
    nn.Conv1d: LINEAR,
    nn.Conv2d: LINEAR,
    nn.Embedding: {"weight": "table"},
    nn.LayerNorm: NORM,
    nn.RMSNorm: NORM,
    nn.QuantizedLinear: PACKED,
    nn.QuantizedEmbedding: PACKED,
    PackedMatrix: {"scales": "own", "biases": "own"},
}
"""Roles of the parameters of MLX's own modules."""


class Parameter(NamedTuple):
    """One parameter of a model.

    Attributes:
        path: its dotted path from the model.
        module: the module that holds it, under `name`.
        role: what it is.
        writes_residual: whether it is a matrix whose output is added to the residual stream.
    """

    path: str
    module: nn.Module
    name: str
    role: Role
    writes_residual: bool

    @property
    def array(self) -> mx.array:
        """Its present value."""
        value: mx.array = self.module[self.name]
        return value


def parameters_of(model: nn.Module) -> Iterator[Parameter]:
    """Every parameter of a model, frozen ones included, in the order of their modules' paths.

    Raises:
        TypeError: a module declares no role for one of its arrays.
    """
    for path, module in sorted(model.named_modules()):
        roles = roles_of(type(module))
        writes = isinstance(module, WritesResidual)
        for name, value in module.items():
            if name.startswith("_") or not _is_parameter(module, name, value):
                continue
            if name not in roles:
                raise TypeError(
                    f"{type(module).__name__} declares no role for its parameter '{name}': add it "
                    "to the class variable `roles` (matrix, table, vector, bias or own)."
                )
            role = roles[name]
            own_path = f"{path}.{name}" if path else name
            yield Parameter(own_path, module, name, role, writes and role == "matrix")


def roles_of(cls: type[nn.Module]) -> dict[str, Role]:
    """The roles that a class of modules declares, those of its base classes included."""
    roles: dict[str, Role] = {}
    for base in reversed(cls.__mro__):
        roles |= OF_MLX.get(base, {}) | vars(base).get("roles", {})
    return roles


def layers_above(model: nn.Module) -> dict[str, int]:
    """How many layers lie above each parameter, by its path.

    Block i of a stack of n has n - i. Embeddings and positions have one more than the first block
    of the longest stack. Heads, pools and the last norm have none. Modules declare which of their
    children are which in a class variable `places: ClassVar[dict[str, Place]]`.
    """
    layers: dict[str, int] = {}
    below: list[str] = []
    for path, module in sorted(model.named_modules()):
        for name, place in _places_of(type(module)).items():
            if name not in module:
                continue
            child = f"{path}.{name}." if path else f"{name}."
            if place == "below":
                below.append(child)
            else:
                n = len(module[name])
                layers |= {f"{child}{i}.": n - i for i in range(n)}
    lowest = max(layers.values(), default=0) + 1

    def above(path: str) -> int:
        for prefix, count in layers.items():
            if path.startswith(prefix):
                return count
        return lowest if path.startswith(tuple(below)) else 0

    return {parameter.path: above(parameter.path) for parameter in parameters_of(model)}


def _places_of(cls: type[nn.Module]) -> dict[str, Place]:
    places: dict[str, Place] = {}
    for base in reversed(cls.__mro__):
        places |= vars(base).get("places", {})
    return places


def _is_parameter(module: nn.Module, name: str, value: object) -> bool:
    """Whether it is an array.

    Raises:
        TypeError: it is a list or table of arrays, which has no role.
    """
    if isinstance(value, (list, tuple, dict)) and not isinstance(value, nn.Module):
        values = value.values() if isinstance(value, dict) else value
        if any(isinstance(item, mx.array) for item in values):
            raise TypeError(
                f"{type(module).__name__}.{name} holds arrays in a list or table: give each "
                "parameter an attribute of its own."
            )
    return isinstance(value, mx.array)
