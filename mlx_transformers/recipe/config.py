"""The typed part of a recipe: frozen, strict classes whose field docstrings are the reference."""

from typing import Any, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator


class Config(BaseModel):
    """A table of a recipe. Unknown keys and wrong types are errors; nothing is coerced, but for
    lists where a tuple is declared."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        use_attribute_docstrings=True,
        defer_build=True,
        arbitrary_types_allowed=True,
    )

    @field_validator("*", mode="before")
    @classmethod
    def _lists_fill_tuples(cls, value: Any, info: ValidationInfo) -> Any:
        """TOML has one kind of list; a frozen config keeps it as a tuple where it says so."""
        annotation = cls.model_fields[info.field_name or ""].annotation
        wants = any(get_origin(a) is tuple for a in (annotation, *get_args(annotation)))
        return _tuples(value) if wants else value


class Kind(Config):
    """A table that fills a slot: its `kind` says with what.

    A subclass narrows `kind` to one literal, e.g. `kind: Literal["rope"] = "rope"`, and builds
    its module: `build(...)`, with the arguments that its slot documents.
    """

    kind: str

    def build(self, *args: Any, **kwargs: Any) -> Any:
        """The module (or function) that this table describes."""
        raise NotImplementedError(f"{type(self).__name__} builds nothing.")


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
