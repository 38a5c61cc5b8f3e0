"""Slots: places of a recipe that are filled by a choice of kinds.

Layers declare the slots they contain (`mixer: Annotated[MixerKind, Slot("mixer")]`) without knowing
what can fill them; the registry, which sees everything, fills the table. Schemas are built at
first use, so the order of imports doesn't matter, and a slot can't be filled after it.
"""

import inspect

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from ..core.errors import RecipeError, unknown
from .config import Kind

KINDS: dict[str, dict[str, type[Kind]]] = {}
"""Every kind of every slot, by slot name, then by kind."""

CLOSED: set[str] = set()
"""Slots whose kinds a schema has read."""


def fill(slot: str, *kinds: type[Kind], of: type = Kind) -> None:
    """Register `kinds` in `slot`, each under the default of its `kind`.

    Args:
        of: the abstract class of the slot; each kind implements all of its methods.

    Raises:
        TypeError: a class that is no `of` or lacks one of its methods, that has no `kind` of its
            own, or whose name another class has taken.
        RuntimeError: a recipe or model has been made before, whose schema lacks the kind.
    """
    table = KINDS.setdefault(slot, {})
    for cls in kinds:
        if not issubclass(cls, of):
            raise TypeError(f"{cls.__name__} fills slot '{slot}', so it must be a {of.__name__}.")
        if inspect.isabstract(cls):
            missing = ", ".join(sorted(cls.__abstractmethods__))
            raise TypeError(f"{cls.__name__} lacks methods of slot '{slot}': {missing}.")
        name = cls.model_fields["kind"].default
        if not isinstance(name, str):
            raise TypeError(f"{cls.__name__} has no kind: give it kind: Literal[...] = ...")
        if name not in table and slot in CLOSED:
            raise RuntimeError(
                f"Slot '{slot}' has been read: fill it with {cls.__name__} before the first recipe "
                "or model of this process is made."
            )
        first = table.setdefault(name, cls)
        if first is not cls:
            raise TypeError(
                f"Slot '{slot}' has a kind '{name}' already: {first.__module__}.{first.__name__}."
            )


def kind_of(slot: str, name: str) -> type[Kind]:
    """Look up the config class of a kind.

    Raises:
        RecipeError: no such kind fills this slot.
    """
    kinds = KINDS.get(slot, {})
    if name not in kinds:
        raise RecipeError(unknown(f"{slot} kind", name, kinds))
    return kinds[name]


class Slot:
    """Marks a field as a slot: `Annotated[NormKind, Slot("norm")]`."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        kinds = KINDS.get(self.name)
        if not kinds:
            raise RuntimeError(
                f"Slot '{self.name}' is empty: import mlx_transformers.assembly.registry first."
            )
        CLOSED.add(self.name)
        choices = {name: handler.generate_schema(cls) for name, cls in kinds.items()}
        return core_schema.tagged_union_schema(choices, discriminator="kind")
