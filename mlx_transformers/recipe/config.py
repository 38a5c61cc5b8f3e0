"""Config classes of recipes: frozen, strict pydantic models; field docstrings are the reference."""

import math
from collections.abc import Iterator
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

FLOAT32_MAX = (2 - 2**-23) * 2.0**127
"""The largest number of float32."""


class Config(BaseModel):
    """A table of a recipe. Unknown keys and wrong types are errors; nothing is coerced, except a
    list to a declared tuple."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        defer_build=True,
        arbitrary_types_allowed=True,
    )

    @field_validator("*", mode="before")
    @classmethod
    def _lists_fill_tuples(cls, value: object, info: ValidationInfo) -> Any:
        """Convert lists to tuples where a tuple is declared: TOML only has lists."""
        annotation = cls.model_fields[info.field_name or ""].annotation
        wants = any(get_origin(a) is tuple for a in (annotation, *get_args(annotation)))
        return _tuples(value) if wants else value

    @field_validator("*", mode="after")
    @classmethod
    def _fits_float32(cls, value: object) -> Any:
        """Refuse finite numbers that become infinite in float32, which models compute in."""
        for number in _floats(value):
            if FLOAT32_MAX < abs(number) < math.inf:
                raise ValueError(f"{number:g} is beyond the range of float32 (±{FLOAT32_MAX:.2g})")
        return value


class Kind(Config):
    """A table that fills a slot; `kind` names the choice.

    A subclass narrows `kind` to one literal, e.g. `kind: Literal["rope"] = "rope"`, and builds
    its module: `build(...)`, with the arguments that its slot documents.
    """

    kind: str


def _floats(value: object) -> Iterator[float]:
    """Yield the floats of a value: itself, or those in its lists, tuples and tables."""
    if isinstance(value, float):
        yield value
    elif isinstance(value, (list, tuple, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _floats(item)


def _tuples(value: object) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
