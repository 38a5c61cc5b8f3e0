"""The typed part of a recipe: frozen, strict classes whose field docstrings are the reference."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """A table of a recipe. Unknown keys and wrong types are errors; nothing is coerced."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        use_attribute_docstrings=True,
        defer_build=True,
        arbitrary_types_allowed=True,
    )


class Kind(Config):
    """A table that fills a slot: its `kind` says with what.

    A subclass narrows `kind` to one literal, e.g. `kind: Literal["rope"] = "rope"`, and builds
    its module: `build(...)`, with the arguments that its slot documents.
    """

    kind: str

    def build(self, *args: Any, **kwargs: Any) -> Any:
        """The module (or function) that this table describes."""
        raise NotImplementedError(f"{type(self).__name__} builds nothing.")
